"""Configuration of a pi0 policy, as stored in its `config.json`."""

from dataclasses import dataclass
import math
from typing import Any

from sqap_vla_ros.columns import Column
from sqap_vla_ros.models.layers.arguments import (
    check_arguments,
    check_count,
    check_decoder,
    check_tower,
    GEMMA,
    LARGEST_COLUMNS,
    LARGEST_ROWS,
    LARGEST_STEPS,
    LARGEST_TOKENS,
)
from sqap_vla_ros.models.layers.vision_config import check_spelled_out, LLAMA_KEYS, TOWER_KEYS

_MODEL_KEYS = (
    'vlm_config',
    'dit_config',
    'chunk_size',
    'max_state_dim',
    'max_action_dim',
    'min_period',
    'max_period',
)
_MODEL: dict[str, Any] = {
    'chunk_size': (1, LARGEST_ROWS),
    'max_state_dim': (1, LARGEST_COLUMNS),
    'max_action_dim': (1, LARGEST_COLUMNS),
    'min_period': (0.0, 1e6),
    'max_period': (0.0, 1e6),
}
_PREFIX: dict[str, Any] = {
    'model_type': ('paligemma',),
    'projection_dim': (1, 2**16),
    'image_token_index': (0, 2**21),
}


@dataclass(frozen=True)
class Pi0Config:
    """pi0 (arXiv 2410.24164): a bidirectional prefix and a flow-matching action expert."""

    model: dict
    """Keyword arguments of transformers' PI0Config."""
    image_size: int = 224
    text_length: int = 48
    """Prompt tokens; a shorter prompt is padded and masked, a longer one is cut."""
    flow_steps: int = 10
    horizon: int = 50
    state: tuple[Column, ...] = ()
    """Meaning of the state columns."""
    action: tuple[Column, ...] = ()
    """Meaning of the action columns, after `action_scale` and `action_offset`."""
    action_scale: tuple[float, ...] = ()
    """Factor a column from the dataset's unit to the action's unit; empty: 1."""
    action_offset: tuple[float, ...] = ()
    """Added after the factor; empty: 0."""
    step_s: float = 0.02
    cameras: tuple[str, ...] = ('camera',)
    """In the order of training; what a checkpoint has beyond these is left out, as if masked."""
    dataset: str = ''
    preprocessing: str = 'openpi'
    """Whose images, prompt and flow times: 'openpi' or 'lerobot'; they differ."""
    letterbox_bars: float = -1.0
    """Value of the bars beside a letterboxed image, where an image is in [-1, 1]."""
    bfloat16_tables: bool = False
    """
    Whether rotary frequencies, and lerobot's scale of embeddings, are rounded to bfloat16.

    Both libraries do so to a model in that type, and it was trained with them.
    """
    relative_actions: tuple[bool, ...] = ()
    """Which action columns are offsets from the same column of the state; empty: none."""
    model_type: str = 'pi0'

    def __post_init__(self) -> None:
        """Check the fields that depend on each other; raises ValueError."""
        if self.preprocessing not in ('openpi', 'lerobot'):
            raise ValueError(
                f'preprocessing is {self.preprocessing!r}, expected openpi or lerobot'
            )
        check_count('horizon', self.horizon, LARGEST_ROWS)
        check_count('flow_steps', self.flow_steps, LARGEST_STEPS)
        check_count('text_length', self.text_length, LARGEST_TOKENS)
        if not math.isfinite(self.letterbox_bars):
            raise ValueError(f'letterbox_bars is {self.letterbox_bars}, expected a finite number')
        check_spelled_out('model', self.model, _MODEL_KEYS)
        prefix = self.model['vlm_config']
        check_spelled_out('model.vlm_config', prefix, ('vision_config', 'text_config'))
        vision = prefix['vision_config']
        check_spelled_out('model.vlm_config.vision_config', vision, ('image_size', *TOWER_KEYS))
        check_spelled_out('model.vlm_config.text_config', prefix['text_config'], LLAMA_KEYS)
        check_spelled_out('model.dit_config', self.model['dit_config'], LLAMA_KEYS)
        _check_rest('model', self.model, _MODEL, 'vlm_config', 'dit_config')
        _check_rest('model.vlm_config', prefix, _PREFIX, 'vision_config', 'text_config')
        check_tower('model.vlm_config.vision_config', vision, 'siglip')
        check_decoder('model.vlm_config.text_config', prefix['text_config'], GEMMA)
        check_decoder('model.dit_config', self.model['dit_config'], GEMMA)
        if vision['image_size'] != self.image_size:
            raise ValueError(
                f'image_size is {self.image_size}, but the vision tower reads '
                f'{vision["image_size"]}'
            )
        if self.horizon != self.model['chunk_size']:
            raise ValueError(
                f'horizon is {self.horizon}, but model.chunk_size {self.model["chunk_size"]}'
            )


def _check_rest(name: str, given: dict[str, Any], allowed: dict[str, Any], *parts: str) -> None:
    """Check the arguments beside those that are objects themselves; raises ValueError."""
    rest = {key: value for key, value in given.items() if key not in parts}
    check_arguments(name, rest, allowed)
