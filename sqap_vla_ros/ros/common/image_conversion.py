"""
Image messages to uint8 RGB arrays and back, without cv_bridge.

What is wrong with a message is found out from its header before anything is allocated. Every
image becomes 8-bit RGB: mono is repeated, alpha is dropped, 16-bit values are scaled from
[0, 65535] and 32-bit floats from [0, 1]. Encodings without a colour order (8UC3, 8UC4) are taken
as RGB, as rqt_image_view takes them.
"""

from enum import Enum
import functools
import io
import warnings

import numpy as np

from sqap_vla_ros.errors import UserError

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


# Encoding to sample type and to the sample of each of R, G, B.
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
ENCODINGS = (*_PACKED, *(name + bits for name in _BAYER for bits in ('8', '16')), *_YUV)


def image_to_rgb(message, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Convert a sensor_msgs/Image to uint8 [height, width, 3], RGB, contiguous.

    Never writes to the message; the array may share its memory. Raises ImageError.
    """
    height, width, encoding = message.height, message.width, message.encoding
    _check_size(width, height, max_pixels)
    if encoding in _PACKED:
        kind, channels, order = _PACKED[encoding]
        samples = _samples(message, kind, channels)
        return _to_rgb8(samples, order)
    if encoding in _YUV:
        if width % 2:
            raise ImageError(
                ImageProblem.BAD_STEP, f'image: {encoding} needs an even width, it is {width}'
            )
        import cv2

        return cv2.cvtColor(_samples(message, 'u1', 2), getattr(cv2, _YUV[encoding]))
    for name, code in _BAYER.items():
        if encoding in (name + '8', name + '16'):
            import cv2

            samples = _samples(message, 'u1' if encoding.endswith('8') else 'u2', 1)
            mosaic = _to_rgb8(samples, (0,))[..., 0]
            return cv2.cvtColor(np.ascontiguousarray(mosaic), getattr(cv2, code))
    raise ImageError(
        ImageProblem.UNKNOWN_ENCODING,
        f'image: encoding {_printable(encoding)} is not supported; publish one of '
        + ', '.join(ENCODINGS),
    )


def compressed_image_to_rgb(message, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """
    Convert a sensor_msgs/CompressedImage (JPEG or PNG) to uint8 [height, width, 3], RGB.

    The size is read from the file's header and checked before it is decoded. Raises ImageError.
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
            _check_size(*picture.size, max_pixels)
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


def rgb_to_image(rgb: np.ndarray, header=None):
    """Convert uint8 [height, width, 3] to a sensor_msgs/Image, rgb8."""
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
def _pillow():
    from PIL import Image

    # Its own limit on sizes would warn on standard error, before ours speaks.
    warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
    return Image


def _check_size(width, height, max_pixels) -> None:
    if width == 0 or height == 0:
        raise ImageError(ImageProblem.EMPTY, f'image: it is {width} x {height} pixels, so empty')
    if width * height > max_pixels:
        raise ImageError(
            ImageProblem.TOO_LARGE,
            f'image: {width} x {height} pixels are more than the limit of '
            f'{max_pixels}; publish a smaller image or raise the limit',
        )


def _samples(message, kind, channels):
    """View the pixels as [height, width, channels], without the padding of the rows."""
    height, width, step = message.height, message.width, message.step
    row = width * channels * np.dtype(kind).itemsize
    if step < row:
        raise ImageError(
            ImageProblem.BAD_STEP,
            f'image: step {step} is less than the {row} bytes of a row of {width} '
            f'pixels {_printable(message.encoding)}',
        )
    if len(message.data) != step * height:
        raise ImageError(
            ImageProblem.WRONG_LENGTH,
            f'image: {len(message.data)} bytes of data, expected step * height = {step * height}',
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row]
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    return np.ascontiguousarray(rows).view(dtype).reshape(height, width, channels)


def _to_rgb8(samples, order):
    if samples.dtype.kind == 'f':
        finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=0.0)
        samples = np.rint(np.clip(finite, 0.0, 1.0) * 255).astype(np.uint8)
    elif samples.dtype.itemsize == 2:
        samples = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if order == tuple(range(samples.shape[2])):
        return samples
    return np.ascontiguousarray(samples[..., list(order)])


def _printable(text, limit=40):
    """Quote text from outside so that it can neither flood nor forge a log."""
    return ascii(text[:limit])
