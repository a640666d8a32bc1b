"""
Image messages to uint8 RGB arrays and back.

A message is checked by its header before anything is allocated. Every image becomes 8-bit RGB:
mono is repeated, alpha is dropped, and 16-bit values (mono16, Bayer) are scaled from [0, 65535].

What the samples mean is never guessed. Encodings that say how many there are but not what they are
(8UC1, 8UC3, 8UC4) need a colour order from the profile: OpenCV's images are BGR, most others RGB.
Measurements such as depth (16UC1, 32FC1) are no pictures and are rejected.

Raw images are converted with cv_bridge where it gives the same numbers (`cv_bridge_conversion`
says where), and by this module elsewhere. Compressed images are always decoded here: cv_bridge
decodes before it knows the size, and takes every picture for 8-bit BGR, including grey,
transparent and 16-bit ones. Messages are always made here: the result of cv_bridge is the same.
"""

from enum import Enum
import functools
import io
import re
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
    NO_PICTURE = 'no_picture'
    NO_COLOUR_ORDER = 'no_colour_order'
    BAD_BYTE_ORDER = 'bad_byte_order'
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
    'rgb8': ('u1', 3, (0, 1, 2)),
    'bgr8': ('u1', 3, (2, 1, 0)),
    'rgba8': ('u1', 4, (0, 1, 2)),
    'bgra8': ('u1', 4, (2, 1, 0)),
    'mono16': ('u2', 1, (0, 0, 0)),
}
"""Encoding to sample type, samples a pixel, and the sample of each of R, G and B."""
_MEANINGS = {
    '8UC1': {'mono': 'mono8'},
    '8UC3': {'rgb': 'rgb8', 'bgr': 'bgr8'},
    '8UC4': {'rgb': 'rgba8', 'bgr': 'bgra8'},
}
"""Encoding that does not say what its samples are, to what it is by the colour order."""
_NUMBERS = re.compile(r'(8|16|32|64)[USF]C[0-9]{1,3}')
"""OpenCV's names of types: numbers without a meaning."""
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


def image_to_rgb(
    message: Any, max_pixels: int = MAX_PIXELS, color_order: str | None = None
) -> np.ndarray:
    """
    Convert a sensor_msgs/Image to RGB.

    Args:
        message: The image, in one of ENCODINGS, or 8UC1, 8UC3 or 8UC4. It is never written to.
        max_pixels: Largest accepted width * height.
        color_order: What 8UC1 ('mono'), 8UC3 and 8UC4 ('rgb', 'bgr') hold, as `Camera` of a
            profile says; None: they are rejected. Other encodings say it themselves.

    Returns:
        uint8 [height, width, 3], contiguous; it may share memory with the message.

    Raises:
        ImageError: The image is empty, too large, truncated, of an unknown encoding, or of one
            that does not say what it shows.

    """
    _check_size(message.width, message.height, max_pixels)
    encoding = _meaning(message.encoding, color_order)
    _check_layout(message, encoding)
    converted = None
    if encoding == message.encoding:
        converted = cv_bridge_conversion.convert(message)
    return image_to_rgb_without_cv_bridge(message, encoding) if converted is None else converted


def image_to_rgb_without_cv_bridge(message: Any, encoding: str | None = None) -> np.ndarray:
    """
    Convert a sensor_msgs/Image that has passed the checks of `image_to_rgb` to the same RGB.

    Args:
        message: The image.
        encoding: What it holds, one of ENCODINGS; None: what the message says.
    """
    encoding = encoding or message.encoding
    samples = _samples(message, encoding)
    if encoding in _PACKED:
        return _to_rgb8(samples, _PACKED[encoding][2])
    import cv2

    if encoding in _YUV:
        return cv2.cvtColor(samples, getattr(cv2, _YUV[encoding]))
    mosaic = np.ascontiguousarray(_to_rgb8(samples, (0,))[..., 0])
    return cv2.cvtColor(mosaic, getattr(cv2, _BAYER[encoding.rstrip('0123456789')]))


def compressed_image_to_rgb(
    message: Any, max_pixels: int = MAX_PIXELS, color_order: str | None = None
) -> np.ndarray:
    """
    Convert a sensor_msgs/CompressedImage to RGB.

    The size is read from the file's header and checked before the file is decoded. A JPEG or PNG
    file says itself which sample is red; `format` says what the image was before it was
    compressed, 'SOURCE; jpeg compressed SAMPLES', where image_transport made it.

    Args:
        message: The image, JPEG or PNG.
        max_pixels: Largest accepted width * height.
        color_order: What the samples were before the file was made, where `format` names an
            encoding that does not say it; see `image_to_rgb`. With 'rgb', red and blue of the
            file are swapped: OpenCV, which wrote it, takes all samples for BGR.

    Returns:
        uint8 [height, width, 3].

    Raises:
        ImageError: The image is empty, too large, damaged, neither JPEG nor PNG, or does not say
            what it shows.

    """
    pillow = _pillow()
    if not len(message.data):
        raise ImageError(ImageProblem.EMPTY, 'compressed image: no data')
    source, swapped = _source_of(message.format, color_order)
    try:
        with pillow.open(io.BytesIO(bytes(message.data)), formats=('JPEG', 'PNG')) as picture:
            width, height = picture.size
            _check_size(width, height, max_pixels)
            if picture.mode.startswith('I') and source != 'mono16':
                raise _no_picture(
                    'compressed image: a PNG with one 16-bit channel, whose format '
                    f'{_printable(message.format)} does not say mono16, is taken for depth'
                )
            if len(picture.getbands()) == 1 and source.startswith('bayer'):
                raise _no_picture(f'compressed image: a mosaic of {source} without colours')
            if picture.mode.startswith('I'):
                return _to_rgb8(np.asarray(picture, np.uint16)[..., None], (0, 0, 0))
            rgb = np.array(picture.convert('RGB'))
            return np.ascontiguousarray(rgb[..., ::-1]) if swapped else rgb
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


def _meaning(encoding: str, color_order: str | None, what: str = 'image: encoding') -> str:
    """Name an encoding by what its samples are, which is one of ENCODINGS."""
    if encoding in _SAMPLES:
        return encoding
    if encoding in _MEANINGS:
        choices = _MEANINGS[encoding]
        if color_order in choices:
            return choices[color_order]
        given = 'not given' if color_order is None else color_order
        raise ImageError(
            ImageProblem.NO_COLOUR_ORDER,
            f'{what} {encoding} does not say what its samples are; publish '
            f'{" or ".join(choices.values())}, or set color_order of this camera in the profile '
            f'to {" or ".join(choices)} (it is {given})',
        )
    if _NUMBERS.fullmatch(encoding):
        raise _no_picture(f'{what} {encoding} holds measurements, such as depth')
    raise ImageError(
        ImageProblem.UNKNOWN_ENCODING,
        f'{what} {_printable(encoding)} is not supported; publish one of {", ".join(ENCODINGS)}',
    )


def _no_picture(what: str) -> ImageError:
    return ImageError(
        ImageProblem.NO_PICTURE,
        f'{what}, which is no picture; the topic of a camera in the profile must be that of its '
        'colour image, for example of encoding rgb8 or of format jpeg',
    )


def _source_of(text: str, color_order: str | None) -> tuple[str, bool]:
    """
    Check the format of a compressed image.

    Returns:
        The encoding of the image before it was compressed, where the format says it; and whether
        red and blue are swapped in the file.
    """
    what = 'compressed image: format'
    if 'compresseddepth' in text.lower():
        raise _no_picture(f'{what} {_printable(text)} is that of depth')
    source, _, codec = (part.strip() for part in text.partition(';'))
    if source == '8UC1' or (_NUMBERS.fullmatch(source) and source not in _MEANINGS):
        _meaning(source, color_order, what)
    elif source in _MEANINGS or 'compressed rgb' in codec:
        if color_order not in ('rgb', 'bgr'):
            raise ImageError(
                ImageProblem.NO_COLOUR_ORDER,
                f'{what} {_printable(text)} leaves open whether red and blue are swapped in the '
                "file; publish 'rgb8; jpeg compressed bgr8' or 'jpeg', or set color_order of this "
                'camera in the profile to bgr if any viewer shows the right colours, to rgb if '
                'they are swapped',
            )
        return source, color_order == 'rgb'
    return source, False


def _check_layout(message: Any, encoding: str) -> None:
    """Check byte order, step and length of the data."""
    width, step = message.width, message.step
    if np.dtype(_SAMPLES[encoding][0]).itemsize > 1 and message.is_bigendian not in (0, 1):
        raise ImageError(
            ImageProblem.BAD_BYTE_ORDER,
            f'image: is_bigendian is {message.is_bigendian}, expected 0 or 1',
        )
    if encoding in _YUV and width % 2:
        raise ImageError(
            ImageProblem.BAD_STEP, f'image: {encoding} needs an even width, it is {width}'
        )
    row = _row_bytes(message, encoding)
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


def _row_bytes(message: Any, encoding: str) -> int:
    kind, channels = _SAMPLES[encoding]
    return message.width * channels * np.dtype(kind).itemsize


def _samples(message: Any, encoding: str) -> np.ndarray:
    """View the pixels as [height, width, channels], without the padding of the rows."""
    kind, channels = _SAMPLES[encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = np.ascontiguousarray(rows[:, : _row_bytes(message, encoding)])
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    return rows.view(dtype).reshape(message.height, message.width, channels)


def _to_rgb8(samples: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    if samples.dtype.itemsize == 2:
        samples = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if order == tuple(range(samples.shape[2])):
        return samples
    return np.ascontiguousarray(samples[..., list(order)])


def _printable(text: str, limit: int = 40) -> str:
    """Quote text from outside so that it can neither flood nor forge a log."""
    return ascii(text[:limit])
