"""Configuration of one vision encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, field


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
