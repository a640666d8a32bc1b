"""
Image messages to uint8 RGB arrays and back.

A message is checked by its header before anything is allocated. Every image becomes 8-bit RGB:
mono is repeated, alpha is dropped, 16-bit values are scaled from [0, 65535] and 32-bit floats from
[0, 1]. Encodings without a colour order (8UC3, 8UC4) are taken as RGB, as rqt_image_view does.

Raw images are converted with cv_bridge where it gives the same numbers (`cv_bridge_conversion`
says where), and by this module elsewhere. Compressed images are always decoded here: cv_bridge
decodes before it knows the size, and takes every picture for 8-bit BGR, including grey,
transparent and 16-bit ones. Messages are always made here: the result of cv_bridge is the same.
"""

from enum import Enum
import functools
import io
from types import ModuleType
from typing import Any
import warnings

import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.common import cv_bridge_conversion

MAX_PIXELS = 16_000_000


class ImageProblem(Enum):
    """Why an image was rejected; the values serve as names of counters."""

    EMPTY = 'empty'
    TOO_LARGE = 'too_large'
    UNKNOWN_ENCODING = 'unknown_encoding'
    BAD_STEP = 'bad_step'
    WRONG_LENGTH = 'wrong_length'
    UNDECODABLE = 'undecodable'


class ImageError(UserError):
    """An image that cannot be used. `reason` says why in a machine-readable way."""

    def __init__(self, reason: ImageProblem, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_PACKED = {
    'mono8': ('u1', 1, (0, 0, 0)),
    '8UC1': ('u1', 1, (0, 0, 0)),
    'rgb8': ('u1', 3, (0, 1, 2)),
    '8UC3': ('u1', 3, (0, 1, 2)),
    'bgr8': ('u1', 3, (2, 1, 0)),
    'rgba8': ('u1', 4, (0, 1, 2)),
    '8UC4': ('u1', 4, (0, 1, 2)),
    'bgra8': ('u1', 4, (2, 1, 0)),
    'mono16': ('u2', 1, (0, 0, 0)),
    '16UC1': ('u2', 1, (0, 0, 0)),
    '32FC1': ('f4', 1, (0, 0, 0)),
}
"""Encoding to sample type, samples a pixel, and the sample of each of R, G and B."""
# OpenCV names a Bayer pattern after the second row's second and third pixel, ROS after the first
# row's first two.
_BAYER = {
    'bayer_rggb': 'COLOR_BayerBG2RGB',
    'bayer_bggr': 'COLOR_BayerRG2RGB',
    'bayer_gbrg': 'COLOR_BayerGR2RGB',
    'bayer_grbg': 'COLOR_BayerGB2RGB',
}
_YUV = {
    'yuv422': 'COLOR_YUV2RGB_UYVY',
    'uyvy': 'COLOR_YUV2RGB_UYVY',
    'yuv422_yuy2': 'COLOR_YUV2RGB_YUYV',
    'yuyv': 'COLOR_YUV2RGB_YUYV',
}
_SAMPLES = {
    **{name: (kind, channels) for name, (kind, channels, _) in _PACKED.items()},
    **{f'{name}8': ('u1', 1) for name in _BAYER},
    **{f'{name}16': ('u2', 1) for name in _BAYER},
    **dict.fromkeys(_YUV, ('u1', 2)),
}
"""Encoding to sample type and to samples a pixel."""
ENCODINGS = tuple(_SAMPLES)


def image_to_rgb(message: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Convert a sensor_msgs/Image to RGB.

    Args:
        message: The image, in one of ENCODINGS. It is never written to.
        max_pixels: Largest accepted width * height.

    Returns:
        uint8 [height, width, 3], contiguous; it may share memory with the message.

    Raises:
        ImageError: The image is empty, too large, of an unknown encoding or truncated.

    """
    _check_size(message.width, message.height, max_pixels)
    _check_layout(message)
    converted = cv_bridge_conversion.convert(message)
    return image_to_rgb_without_cv_bridge(message) if converted is None else converted


def image_to_rgb_without_cv_bridge(message: Any) -> np.ndarray:
    """Convert a sensor_msgs/Image that has passed the checks of `image_to_rgb` to the same RGB."""
    encoding, samples = message.encoding, _samples(message)
    if encoding in _PACKED:
        return _to_rgb8(samples, _PACKED[encoding][2])
    import cv2

    if encoding in _YUV:
        return cv2.cvtColor(samples, getattr(cv2, _YUV[encoding]))
    mosaic = np.ascontiguousarray(_to_rgb8(samples, (0,))[..., 0])
    return cv2.cvtColor(mosaic, getattr(cv2, _BAYER[encoding.rstrip('0123456789')]))


def compressed_image_to_rgb(message: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Convert a sensor_msgs/CompressedImage to RGB.

    The size is read from the file's header and checked before the file is decoded.

    Args:
        message: The image, JPEG or PNG.
        max_pixels: Largest accepted width * height.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ImageError: The image is empty, too large, neither JPEG nor PNG, or damaged.

    """
    pillow = _pillow()
    if 'compressedDepth' in message.format:
        raise ImageError(
            ImageProblem.UNKNOWN_ENCODING,
            'compressed image: format compressedDepth is not a picture; publish jpeg or png',
        )
    if not len(message.data):
        raise ImageError(ImageProblem.EMPTY, 'compressed image: no data')
    try:
        with pillow.open(io.BytesIO(bytes(message.data)), formats=('JPEG', 'PNG')) as picture:
            width, height = picture.size
            _check_size(width, height, max_pixels)
            if picture.mode.startswith('I'):
                return _to_rgb8(np.asarray(picture, np.uint16)[..., None], (0, 0, 0))
            return np.array(picture.convert('RGB'))
    except pillow.UnidentifiedImageError:
        raise ImageError(
            ImageProblem.UNKNOWN_ENCODING,
            f'compressed image: format {_printable(message.format)} is neither jpeg nor png',
        ) from None
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise ImageError(
            ImageProblem.UNDECODABLE, f'compressed image: cannot be decoded ({error})'
        ) from None


def rgb_to_image(rgb: np.ndarray, header: Any | None = None) -> Any:
    """
    Make a sensor_msgs/Image, rgb8.

    Args:
        rgb: uint8 [height, width, 3].
        header: std_msgs/Header of the message; empty by default.

    Raises:
        ValueError: The array has another type or shape.

    """
    from sensor_msgs.msg import Image

    height, width, channels = rgb.shape
    if rgb.dtype != np.uint8 or channels != 3:
        raise ValueError(f'expected uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}')
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width, is_bigendian=0)
    if header is not None:
        message.header = header
    message.data = rgb.tobytes()  # bytes: the setter would check an array's elements one by one
    return message


@functools.cache
def _pillow() -> ModuleType:
    from PIL import Image

    # Its own limit on sizes would warn on standard error, before ours speaks.
    warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
    return Image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise ImageError(ImageProblem.EMPTY, f'image: it is {width} x {height} pixels, so empty')
    if width * height > max_pixels:
        raise ImageError(
            ImageProblem.TOO_LARGE,
            f'image: {width} x {height} pixels are more than the limit of '
            f'{max_pixels}; publish a smaller image or raise the limit',
        )


def _check_layout(message: Any) -> None:
    """Check encoding, step and length of the data."""
    encoding, width, step = message.encoding, message.width, message.step
    if encoding not in _SAMPLES:
        raise ImageError(
            ImageProblem.UNKNOWN_ENCODING,
            f'image: encoding {_printable(encoding)} is not supported; publish one of '
            + ', '.join(ENCODINGS),
        )
    if encoding in _YUV and width % 2:
        raise ImageError(
            ImageProblem.BAD_STEP, f'image: {encoding} needs an even width, it is {width}'
        )
    row = _row_bytes(message)
    if step < row:
        raise ImageError(
            ImageProblem.BAD_STEP,
            f'image: step {step} is less than the {row} bytes of a row of {width} '
            f'pixels {_printable(encoding)}',
        )
    length = step * message.height
    if len(message.data) != length:
        raise ImageError(
            ImageProblem.WRONG_LENGTH,
            f'image: {len(message.data)} bytes of data, expected step * height = {length}',
        )


def _row_bytes(message: Any) -> int:
    kind, channels = _SAMPLES[message.encoding]
    return message.width * channels * np.dtype(kind).itemsize


def _samples(message: Any) -> np.ndarray:
    """View the pixels as [height, width, channels], without the padding of the rows."""
    kind, channels = _SAMPLES[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = np.ascontiguousarray(rows[:, : _row_bytes(message)])
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    return rows.view(dtype).reshape(message.height, message.width, channels)


def _to_rgb8(samples: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    if samples.dtype.kind == 'f':
        finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=0.0)
        samples = np.rint(np.clip(finite, 0.0, 1.0) * 255).astype(np.uint8)
    elif samples.dtype.itemsize == 2:
        samples = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if order == tuple(range(samples.shape[2])):
        return samples
    return np.ascontiguousarray(samples[..., list(order)])


def _printable(text: str, limit: int = 40) -> str:
    """Quote text from outside so that it can neither flood nor forge a log."""
    return ascii(text[:limit])
