"""
The encodings of image messages: how many samples a pixel has, and what they are.

Nothing is guessed: an encoding that does not say what its samples are needs a word from the
profile, and measurements such as depth are no pictures.
"""

from enum import Enum
import re

from sqap_vla_ros.errors import UserError


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


PACKED = {
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
BAYER = {
    'bayer_rggb': 'COLOR_BayerBG2RGB',
    'bayer_bggr': 'COLOR_BayerRG2RGB',
    'bayer_gbrg': 'COLOR_BayerGR2RGB',
    'bayer_grbg': 'COLOR_BayerGB2RGB',
}
YUV = {
    'yuv422': 'COLOR_YUV2RGB_UYVY',
    'uyvy': 'COLOR_YUV2RGB_UYVY',
    'yuv422_yuy2': 'COLOR_YUV2RGB_YUYV',
    'yuyv': 'COLOR_YUV2RGB_YUYV',
}
SAMPLES = {
    **{name: (kind, channels) for name, (kind, channels, _) in PACKED.items()},
    **{f'{name}8': ('u1', 1) for name in BAYER},
    **{f'{name}16': ('u2', 1) for name in BAYER},
    **dict.fromkeys(YUV, ('u1', 2)),
}
"""Encoding to sample type and to samples a pixel."""
ENCODINGS = tuple(SAMPLES)


def meaning(encoding: str, color_order: str | None, what: str = 'image: encoding') -> str:
    """
    Name an encoding by what its samples are.

    Args:
        encoding: From a message.
        color_order: 'rgb', 'bgr' or 'mono', for encodings that do not say it; None: not known.
        what: What is shown before the encoding in messages.

    Returns:
        One of ENCODINGS.

    Raises:
        ImageError: The samples are not known, or no picture.
    """
    if encoding in SAMPLES:
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
        raise no_picture(f'{what} {encoding} holds measurements, such as depth')
    raise ImageError(
        ImageProblem.UNKNOWN_ENCODING,
        f'{what} {printable(encoding)} is not supported; publish one of {", ".join(ENCODINGS)}',
    )


def no_picture(what: str) -> ImageError:
    """Make the error for measurements, such as depth, on the topic of a camera."""
    return ImageError(
        ImageProblem.NO_PICTURE,
        f'{what}, which is no picture; the topic of a camera in the profile must be that of its '
        'colour image, for example of encoding rgb8 or of format jpeg',
    )


def source_of(text: str, color_order: str | None) -> tuple[str, bool]:
    """
    Check the format of a compressed image.

    Args:
        text: `format` of sensor_msgs/CompressedImage.
        color_order: See `meaning`; used where `format` leaves the order open.

    Returns:
        The encoding of the image before it was compressed, where the format says it; and whether
        red and blue are swapped in the file.

    Raises:
        ImageError: The image is that of depth, or its colours are not known.
    """
    what = 'compressed image: format'
    if 'compresseddepth' in text.lower():
        raise no_picture(f'{what} {printable(text)} is that of depth')
    source, _, codec = (part.strip() for part in text.partition(';'))
    if source == '8UC1' or (_NUMBERS.fullmatch(source) and source not in _MEANINGS):
        meaning(source, color_order, what)
    elif source in _MEANINGS or 'compressed rgb' in codec:
        if color_order not in ('rgb', 'bgr'):
            raise ImageError(
                ImageProblem.NO_COLOUR_ORDER,
                f'{what} {printable(text)} leaves open whether red and blue are swapped in the '
                "file; publish 'rgb8; jpeg compressed bgr8' or 'jpeg', or set color_order of this "
                'camera in the profile to bgr if any viewer shows the right colours, to rgb if '
                'they are swapped',
            )
        return source, color_order == 'rgb'
    return source, False


def printable(text: str, limit: int = 40) -> str:
    """Quote text from outside so that it can neither flood nor forge a log."""
    return ascii(text[:limit])
