"""Configuration of one vision encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import math

from sqap_vla_ros.errors import shown
from sqap_vla_ros.models.layers.arguments import check_tower


@dataclass(frozen=True)
class VisionConfig:
    """One vision encoder; its features and those of further encoders are concatenated."""

    kind: str = 'siglip'
    """
    'siglip': transformers' SiglipVisionModel without its pooling head; 'dinov2': its
    Dinov2WithRegistersModel, of which the patch tokens are used.
    """
    model: dict = field(default_factory=dict)
    """Keyword arguments of the encoder's transformers configuration."""
    attention_window: int | None = None
    """
    Patches attend to patches at most this many rows and columns away; None: to all.

    The small policy needs it: a few global layers would mix the whole image into every token,
    and then it would not matter which tokens are pruned.
    """
    final_norm: bool = True
    """Whether features pass the encoder's last layer norm."""
    drop_last_layers: int = 0
    """Encoder layers left out at the end (Prismatic VLMs take the last but one)."""
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        """Check kind and sizes, and the numbers of images' normalisation; raises ValueError."""
        check_tower('vision.model', self.model, self.kind)
        layers = self.model.get('num_hidden_layers', 0)
        if self.drop_last_layers and not 0 <= self.drop_last_layers < layers:
            raise ValueError(
                f'drop_last_layers is {shown(self.drop_last_layers)}, expected less than the '
                f'{layers} layers of the tower'
            )
        window = self.attention_window
        if window is not None and (not isinstance(window, int) or window < 0):
            raise ValueError(f'attention_window is {shown(window)}, expected 0 or more, or null')
        for name in ('image_mean', 'image_std'):
            values = getattr(self, name)
            lowest = 0 if name == 'image_std' else -math.inf
            if len(values) != 3 or not all(lowest < value < math.inf for value in values):
                what = 'numbers above 0' if name == 'image_std' else 'finite numbers'
                raise ValueError(f'{name} is {list(values)}, expected three {what}')


LLAMA_KEYS = 'num_attention_heads', 'num_key_value_heads', 'hidden_act', 'rms_norm_eps'
TOWER_KEYS = 'num_attention_heads', 'hidden_act', 'layer_norm_eps'
"""Arguments that change a model, and that the shapes of its tensors do not confirm."""


def check_spelled_out(name: str, model: Mapping[str, object], keys: Sequence[str]) -> None:
    """
    Check that arguments of a transformers class are given, which else has defaults of its own.

    Args:
        name: of the field that holds them, for messages.
        model: the arguments.
        keys: that must be there.

    Raises:
        ValueError: names the first that is missing.
    """
    if not isinstance(model, Mapping):
        raise ValueError(f'{name} is {shown(model)}, expected an object')
    for key in keys:
        if key not in model:
            raise ValueError(f'{name}.{key} is missing')


def check_one_image(
    cameras: Sequence[str], vision: Sequence[VisionConfig], image_size: int
) -> None:
    """
    Check the configuration of a model that reads one image.

    Args:
        cameras: names of its cameras.
        vision: its encoders.
        image_size: rows and columns that the image is resized to, pixels.

    Raises:
        ValueError: there is not one camera, or an encoder reads images of another size.
    """
    if len(cameras) != 1:
        raise ValueError(f'cameras is {list(cameras)}, expected one name')
    for encoder in vision:
        size = encoder.model.get('image_size', image_size)
        if size != image_size:
            raise ValueError(f'image_size is {image_size}, but a vision tower reads {size}')


def check_prismatic(vision: Sequence[VisionConfig], llama: Mapping[str, object]) -> None:
    """Check that a released Prismatic model's arguments are spelled out; raises ValueError."""
    check_spelled_out('llama', llama, LLAMA_KEYS)
    for index, encoder in enumerate(vision):
        check_spelled_out(f'vision[{index}].model', encoder.model, TOWER_KEYS)
