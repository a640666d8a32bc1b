"""
Image messages to uint8 RGB arrays.

A message is checked by its header before anything is allocated. Every image becomes 8-bit RGB:
mono is repeated, alpha is dropped, and 16-bit values (mono16, Bayer) are scaled from [0, 65535].

What the samples mean is never guessed. Encodings that say how many there are but not what they are
(8UC1, 8UC3, 8UC4) need a colour order from the profile: OpenCV's images are BGR, most others RGB.
Measurements such as depth (16UC1, 32FC1) are no pictures and are rejected.

Raw images are converted with cv_bridge where it gives the same numbers (`cv_bridge_conversion`
says where), and by this module elsewhere. Compressed images are always decoded here: cv_bridge
decodes before it knows the size, and takes every picture for 8-bit BGR, including grey,
transparent and 16-bit ones.

A message is anything with the fields of its ROS type, so that this needs no ROS.
"""

import contextlib
import functools
import io
from types import ModuleType
from typing import Any
import warnings

import numpy as np

from sqap_vla_ros.images import cv_bridge_conversion
from sqap_vla_ros.images.encodings import (
    BAYER,
    ImageError,
    ImageProblem,
    meaning,
    no_picture,
    PACKED,
    printable,
    SAMPLES,
    source_of,
    YUV,
)

MAX_PIXELS = 16_000_000
MAX_SCANS = 20
"""Passes of a progressive JPEG: encoders make about ten, and each costs as much as a picture."""
_REORDERINGS: dict[tuple[int, tuple[int, ...]], str] = {
    (1, (0, 0, 0)): 'COLOR_GRAY2RGB',
    (3, (2, 1, 0)): 'COLOR_BGR2RGB',
    (4, (0, 1, 2)): 'COLOR_RGBA2RGB',
    (4, (2, 1, 0)): 'COLOR_BGRA2RGB',
}
"""Samples of a pixel, and which of them are R, G and B, to OpenCV's name of the conversion."""
MIN_MOSAIC = 3
"""Rows and columns that a Bayer pattern needs; OpenCV makes smaller ones black."""


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
    encoding = meaning(message.encoding, color_order)
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
    if encoding in PACKED:
        return _to_rgb8(samples, PACKED[encoding][2])
    import cv2

    if encoding in YUV:
        return cv2.cvtColor(samples, getattr(cv2, YUV[encoding]))
    mosaic = np.ascontiguousarray(_to_rgb8(samples, (0,))[..., 0])
    return cv2.cvtColor(mosaic, getattr(cv2, BAYER[encoding.rstrip('0123456789')]))


def compressed_image_to_rgb(
    message: Any, max_pixels: int = MAX_PIXELS, color_order: str | None = None
) -> np.ndarray:
    """
    Convert a sensor_msgs/CompressedImage to RGB.

    The size is read from the file's header and checked before the file is decoded. An image that
    its file says to be turned (EXIF) is turned. A JPEG or PNG
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
    source, swapped = source_of(message.format, color_order)
    file = bytes(message.data)
    _check_scans(file)
    try:
        with pillow.open(io.BytesIO(file), formats=('JPEG', 'PNG')) as picture:
            width, height = picture.size
            _check_size(width, height, max_pixels)
            if picture.mode.startswith('I') and source != 'mono16':
                raise no_picture(
                    'compressed image: a PNG with one 16-bit channel, whose format '
                    f'{printable(message.format)} does not say mono16, is taken for depth'
                )
            if len(picture.getbands()) == 1 and source.startswith('bayer'):
                raise no_picture(f'compressed image: a mosaic of {source} without colours')
            if picture.mode.startswith('I'):
                return _to_rgb8(np.asarray(picture, np.uint16)[..., None], (0, 0, 0))
            _turn_upright(picture)
            rgb = np.array(picture if picture.mode == 'RGB' else picture.convert('RGB'))
            return np.ascontiguousarray(rgb[..., ::-1]) if swapped else rgb
    except pillow.UnidentifiedImageError:
        raise ImageError(
            ImageProblem.UNKNOWN_ENCODING,
            f'compressed image: format {printable(message.format)} is neither jpeg nor png',
        ) from None
    except ImageError:
        raise
    except Exception as error:  # damaged files raise more kinds than Pillow documents
        raise ImageError(
            ImageProblem.UNDECODABLE,
            f'compressed image: cannot be decoded ({printable(str(error), 120)})',
        ) from None


def _turn_upright(picture: Any) -> None:
    """Turn a picture as its EXIF data say, as OpenCV does, with which datasets are recorded."""
    from PIL import ImageOps

    picture.load()  # what is damaged in the picture itself is not passed over below
    # Damaged EXIF data raise anything; the picture is good without them.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)


@functools.cache
def _pillow() -> ModuleType:
    from PIL import Image

    # Its own limit on sizes would warn on standard error, before ours speaks.
    warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
    return Image


def _check_scans(file: bytes) -> None:
    """Refuse a JPEG of which a small file makes a decoder work for half a minute."""
    # Inside of a scan 0xff is never followed by 0xda; a preview in the header counts as well.
    if file.startswith(b'\xff\xd8') and (scans := file.count(b'\xff\xda')) > MAX_SCANS:
        raise ImageError(
            ImageProblem.TOO_LARGE,
            f'compressed image: a progressive JPEG of {scans} scans, expected at most {MAX_SCANS}',
        )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise ImageError(ImageProblem.EMPTY, f'image: it is {width} x {height} pixels, so empty')
    if width * height > max_pixels:
        raise ImageError(
            ImageProblem.TOO_LARGE,
            f'image: {width} x {height} pixels are more than the limit of '
            f'{max_pixels}; publish a smaller image or raise the limit',
        )


def _check_layout(message: Any, encoding: str) -> None:
    """Check byte order, step and length of the data."""
    width, step = message.width, message.step
    if np.dtype(SAMPLES[encoding][0]).itemsize > 1 and message.is_bigendian not in (0, 1):
        raise ImageError(
            ImageProblem.BAD_BYTE_ORDER,
            f'image: is_bigendian is {message.is_bigendian}, expected 0 or 1',
        )
    if encoding in YUV and width % 2:
        raise ImageError(
            ImageProblem.BAD_STEP, f'image: {encoding} needs an even width, it is {width}'
        )
    if encoding.startswith('bayer') and min(width, message.height) < MIN_MOSAIC:
        raise ImageError(
            ImageProblem.EMPTY,
            f'image: {width} x {message.height} pixels of {encoding} have no colours, expected '
            f'at least {MIN_MOSAIC} x {MIN_MOSAIC}',
        )
    row = _row_bytes(message, encoding)
    if step < row:
        raise ImageError(
            ImageProblem.BAD_STEP,
            f'image: step {step} is less than the {row} bytes of a row of {width} '
            f'pixels {printable(encoding)}',
        )
    length = step * message.height
    if len(message.data) != length:
        raise ImageError(
            ImageProblem.WRONG_LENGTH,
            f'image: {len(message.data)} bytes of data, expected step * height = {length}',
        )


def _row_bytes(message: Any, encoding: str) -> int:
    kind, channels = SAMPLES[encoding]
    return message.width * channels * np.dtype(kind).itemsize


def _samples(message: Any, encoding: str) -> np.ndarray:
    """View the pixels as [height, width, channels], without the padding of the rows."""
    kind, channels = SAMPLES[encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = np.ascontiguousarray(rows[:, : _row_bytes(message, encoding)])
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    return rows.view(dtype).reshape(message.height, message.width, channels)


def _to_rgb8(samples: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    if samples.dtype.itemsize == 2:
        samples = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if order == tuple(range(samples.shape[2])):
        return samples
    import cv2

    # NumPy takes ten times as long for this, and holds Python's lock.
    return cv2.cvtColor(samples, getattr(cv2, _REORDERINGS[samples.shape[2], order]))
