"""Configuration of a CogACT policy, as stored in its `config.json`."""

from dataclasses import dataclass
import math

from sqap_vla_ros.columns import Column
from sqap_vla_ros.models.layers.arguments import (
    check_arguments,
    check_count,
    check_decoder,
    check_heads,
    LARGEST_ROWS,
    LARGEST_STEPS,
    LARGEST_TOKENS,
)
from sqap_vla_ros.models.layers.vision_config import check_one_image, check_prismatic, VisionConfig


@dataclass(frozen=True)
class ActionHeadConfig:
    """Diffusion transformer (CogACT, arXiv 2411.19650, section 3.3)."""

    hidden_size: int = 384
    depth: int = 6
    heads: int = 4
    diffusion_steps: int = 100
    ddim_steps: int = 10
    guidance: float = 1.5
    """Classifier-free guidance scale; 1: off."""

    def __post_init__(self) -> None:
        """Check sizes, and the fields that depend on each other; raises ValueError."""
        check_arguments(
            'action_head',
            {'hidden_size': self.hidden_size, 'depth': self.depth, 'heads': self.heads},
            {'hidden_size': (1, 2**14), 'depth': (1, 256), 'heads': (1, 512)},
        )
        check_heads('action_head', self.hidden_size, self.heads)
        check_count('diffusion_steps', self.diffusion_steps, LARGEST_STEPS)
        if not 1 <= self.ddim_steps <= self.diffusion_steps:
            raise ValueError(
                f'ddim_steps is {self.ddim_steps}, expected 1 .. diffusion_steps '
                f'({self.diffusion_steps})'
            )
        if not math.isfinite(self.guidance):
            raise ValueError(f'guidance is {self.guidance}, expected a finite number')


@dataclass(frozen=True)
class CogActConfig:
    """Everything that builds the module tree and interprets its inputs and outputs."""

    vision: tuple[VisionConfig, ...]
    llama: dict
    """Keyword arguments of transformers' LlamaConfig."""
    action_head: ActionHeadConfig
    image_size: int
    """Images are squashed to this many pixels a side."""
    projector: str = 'gelu-mlp'
    """'gelu-mlp' (two layers) or 'fused-gelu-mlp' (three), as Prismatic VLMs name them."""
    text: str = 'words'
    """
    'words': vocabulary.json, one id a word, padded to text_length; 'prismatic': the released
    models' prompt through tokenizer.json, as long as it is.
    """
    text_length: int = 12
    state: tuple[Column, ...] = ()
    """
    Meaning of the columns of the robot's state, which becomes a token before the cognition token;
    empty: none (as released).
    """
    action: tuple[Column, ...] = ()
    """Meaning of the action columns, after `action_scale` and `action_offset`."""
    binary_actions: tuple[str, ...] = ()
    """Actions that are 0 or 1: thresholded at 0.5 and never unnormalised."""
    action_scale: tuple[float, ...] = ()
    """Factor a column from the dataset's unit to the action's unit; empty: 1."""
    action_offset: tuple[float, ...] = ()
    """Added after the factor; empty: 0."""
    step_s: float = 0.05
    horizon: int = 16
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = ''
    """Key of the dataset statistics in use."""
    model_type: str = 'cogact'

    def __post_init__(self) -> None:
        """Check sizes, and the fields that depend on each other; raises ValueError."""
        check_decoder('llama', self.llama)
        check_one_image(self.cameras, self.vision, self.image_size)
        if self.text == 'prismatic':
            check_prismatic(self.vision, self.llama)
        check_count('horizon', self.horizon, LARGEST_ROWS)
        check_count('text_length', self.text_length, LARGEST_TOKENS)
        names = [column.name for column in self.action]
        unknown = [name for name in self.binary_actions if name not in names]
        if unknown:
            raise ValueError(
                f'binary_actions: {unknown[0]!r} is no action; there are {", ".join(names)}'
            )
