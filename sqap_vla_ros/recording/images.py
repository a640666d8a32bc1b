"""
Images as the black box keeps them: as they came, or as JPEGs where they take too much memory.

An image that came as a file (sensor_msgs/CompressedImage) is kept as that file, any other as its
pixels in the encoding of the camera. Both are decoded as the node has decoded them, when they are
needed. A checksum of what the policy saw tells whether another decoder gives the same.
"""

from dataclasses import dataclass
from typing import Any
import zlib

import numpy as np

from sqap_vla_ros.images.conversion import compressed_image_to_rgb, image_to_rgb, MAX_PIXELS

JPEG = b'\xff\xd8'
_EVERY = 16
"""The checksum is that of every 16th row: 1 ms for a 4K image."""


@dataclass(frozen=True)
class Pixels:
    """What is needed of a sensor_msgs/Image, with the names of its fields."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any
    """Bytes, or anything that can be read like them."""


@dataclass(frozen=True)
class ImageFile:
    """What is needed of a sensor_msgs/CompressedImage, with the names of its fields."""

    format: str
    data: Any
    """Bytes, or anything that can be read like them."""


@dataclass(frozen=True)
class KeptImage:
    """An image of an observation."""

    content: Pixels | ImageFile
    color_order: str | None = None
    """What the samples are where the encoding does not say it; see `images.conversion`."""
    exact: bool = True
    """Whether it is what the policy saw, and not a JPEG of that."""
    checksum: int | None = None
    """Of the RGB that the policy saw, see `checksum_of`; None: not known (earlier versions)."""
    max_pixels: int = MAX_PIXELS

    @property
    def nbytes(self) -> int:
        """Memory that it takes, bytes."""
        return memoryview(self.content.data).nbytes

    @property
    def shrinks(self) -> bool:
        """Whether a JPEG would be smaller: of pixels, and of files that are none."""
        data = memoryview(self.content.data)
        return isinstance(self.content, Pixels) or bytes(data[:2]) != JPEG

    def rgb(self) -> np.ndarray:
        """
        Decode it.

        Returns:
            uint8 [height, width, 3].

        Raises:
            ImageError: it cannot be decoded.
        """
        convert = image_to_rgb if isinstance(self.content, Pixels) else compressed_image_to_rgb
        return convert(self.content, self.max_pixels, self.color_order)

    def as_jpeg(self, quality: int) -> 'KeptImage':
        """
        Encode it as JPEG; takes about 0.1 s for a 4K image, without Python's lock.

        Args:
            quality: 1 .. 100.

        Raises:
            ImageError: it cannot be decoded.
            ValueError: it cannot be encoded.
        """
        import cv2

        bgr = cv2.cvtColor(self.rgb(), cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise ValueError(f'an image of {bgr.shape} cannot be written as JPEG')
        return KeptImage(
            ImageFile('jpeg', data.tobytes()), None, False, self.checksum, self.max_pixels
        )


def keep(message: Any, color_order: str | None = None, max_pixels: int = MAX_PIXELS) -> KeptImage:
    """
    Keep an image as it came.

    Args:
        message: sensor_msgs/Image or CompressedImage, or a view of one; its data are not copied.
        color_order: with which it was decoded.
        max_pixels: the same.
    """
    content: Pixels | ImageFile
    if hasattr(message, 'format'):
        content = ImageFile(message.format, message.data)
    else:
        content = Pixels(
            message.height,
            message.width,
            message.encoding,
            message.is_bigendian,
            message.step,
            message.data,
        )
    return KeptImage(content, color_order, max_pixels=max_pixels)


def keep_rgb(rgb: np.ndarray) -> KeptImage:
    """Keep an image that is RGB already, uint8 [height, width, 3]."""
    height, width, _ = rgb.shape
    data = np.ascontiguousarray(rgb).reshape(-1).data
    return KeptImage(Pixels(height, width, 'rgb8', 0, 3 * width, data), checksum=checksum_of(rgb))


def checksum_of(rgb: np.ndarray) -> int:
    """Return a checksum of uint8 [height, width, 3]; other decoders change it."""
    return zlib.crc32(np.ascontiguousarray(rgb[::_EVERY]).data)
