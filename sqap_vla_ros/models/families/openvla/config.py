"""Configuration of an OpenVLA policy, as stored in its `config.json`."""

from dataclasses import dataclass

from sqap_vla_ros.columns import Column
from sqap_vla_ros.errors import shown
from sqap_vla_ros.models.layers.arguments import check_decoder
from sqap_vla_ros.models.layers.vision_config import check_one_image, check_prismatic, VisionConfig

LARGEST_BINS = 2**20


@dataclass(frozen=True)
class OpenVlaConfig:
    """OpenVLA (arXiv 2406.09246): the decoder writes one action token a column."""

    vision: tuple[VisionConfig, ...]
    llama: dict
    """Keyword arguments of transformers' LlamaConfig."""
    image_size: int
    projector: str = 'fused-gelu-mlp'
    crop_area: float = 1.0
    """Share of the image's area, at its centre, that is used: 0.9 for LIBERO fine-tunes."""
    action_bins: int = 256
    token_end: int = 32000
    """One more than the largest action token's id: the vocabulary before its padding."""
    action: tuple[Column, ...] = ()
    """Meaning of the action columns, after `action_scale` and `action_offset`."""
    action_scale: tuple[float, ...] = ()
    """Factor a column from the dataset's unit to the action's unit; empty: 1."""
    action_offset: tuple[float, ...] = ()
    """Added after the factor; empty: 0."""
    step_s: float = 0.2
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = ''
    """Key of the dataset statistics in use."""
    model_type: str = 'openvla'

    def __post_init__(self) -> None:
        """Check the fields that depend on each other; raises ValueError."""
        check_decoder('llama', self.llama)
        check_one_image(self.cameras, self.vision, self.image_size)
        check_prismatic(self.vision, self.llama)
        if not 0 < self.crop_area <= 1:
            raise ValueError(f'crop_area is {self.crop_area:g}, expected more than 0, at most 1')
        if not 2 <= self.action_bins <= LARGEST_BINS:
            raise ValueError(
                f'action_bins is {shown(self.action_bins)}, expected 2 .. {LARGEST_BINS}'
            )
        words = self.llama.get('vocab_size', self.token_end)
        if not self.action_bins <= self.token_end <= words:
            raise ValueError(
                f'token_end is {self.token_end}, expected action_bins ({self.action_bins}) .. '
                f'llama.vocab_size ({words})'
            )
