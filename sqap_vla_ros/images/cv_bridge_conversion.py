"""
Image messages to RGB with cv_bridge, where it is installed and works with this NumPy.

`convert` returns None wherever `conversion` must use its own conversion:

- cv_bridge is missing or does not work. The Jazzy binary is built against NumPy 1 and may crash
  under NumPy 2 (vision_opencv issue 535), so it is not even loaded there.
- 8UC1, 8UC3 and 8UC4 have no colours without a word from the profile, and cv_bridge does not know
  uyvy and yuyv: it converts none of them to rgb8.
- 16-bit Bayer: cv_bridge interpolates the colours before it scales to 8 bits, our conversion
  afterwards, which rounds differently.
- Rows whose step is not a whole number of pixels: cv_bridge rounds the step down, which skews
  the image.
- Big-endian messages: cv_bridge calls `ndarray.newbyteorder`, which NumPy 2 has removed.
"""

from collections.abc import Iterable
from functools import cache
import importlib.util
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PIXEL_BYTES = {
    'mono8': 1,
    'rgb8': 3,
    'bgr8': 3,
    'rgba8': 4,
    'bgra8': 4,
    'mono16': 2,
    'bayer_rggb8': 1,
    'bayer_bggr8': 1,
    'bayer_gbrg8': 1,
    'bayer_grbg8': 1,
    'yuv422': 2,
    'yuv422_yuy2': 2,
}
"""Bytes of a pixel of every encoding that cv_bridge converts to the same RGB as we do."""

_LOG = logging.getLogger(__name__)


def convert(message: Any) -> np.ndarray | None:
    """
    Convert a sensor_msgs/Image to RGB with cv_bridge.

    Args:
        message: An image whose size, step and length of data have been checked; cv_bridge does not
            check them.

    Returns:
        uint8 [height, width, 3], contiguous, which may share memory with the message; None where
        cv_bridge is not to be used or fails.

    """
    pixel_bytes = PIXEL_BYTES.get(message.encoding)
    if pixel_bytes is None or message.step % pixel_bytes or message.is_bigendian:
        return None
    bridge = load()
    if bridge is None:
        return None
    # 'passthrough' does not copy.
    wanted = 'passthrough' if message.encoding == 'rgb8' else 'rgb8'
    try:
        return np.ascontiguousarray(bridge.imgmsg_to_cv2(message, wanted))
    except Exception as error:
        _LOG.debug('cv_bridge failed on a %s image (%s)', message.encoding, error)
        return None


@cache
def load() -> Any | None:
    """Import cv_bridge and try it on two pixels; returns a `CvBridge`, or None with a log line."""
    try:
        spec = importlib.util.find_spec('cv_bridge')
        if spec is None:
            raise ImportError('it is not installed')
        if not _built_for_this_numpy(map(Path, spec.submodule_search_locations or ())):
            raise ImportError(f'it is built against NumPy 1, and NumPy {np.__version__} runs')
        from cv_bridge import CvBridge

        bridge = CvBridge()
        # The compiled half is loaded by the first conversion only.
        pixels = SimpleNamespace(
            height=1, width=2, encoding='bgr8', step=6, is_bigendian=0, data=bytes(range(6))
        )
        converted = bridge.imgmsg_to_cv2(pixels, 'rgb8')
        if not np.array_equal(converted, [[[2, 1, 0], [5, 4, 3]]]):
            raise ImportError('it does not convert bgr8 to rgb8')
    except Exception as error:  # a broken binary raises more than ImportError
        _LOG.debug('images are converted without cv_bridge: %s', error)
        return None
    return bridge


def _built_for_this_numpy(folders: Iterable[Path]) -> bool:
    """Tell whether the compiled part runs with this NumPy, without loading it."""
    if np.lib.NumpyVersion(np.__version__) < '2.0.0':
        return True
    # Only NumPy 2's headers import numpy._core; modules built with them run with NumPy 1 and 2.
    libraries = [path for folder in folders for path in folder.glob('boost/cv_bridge_boost*.so')]
    return all(b'numpy._core' in path.read_bytes() for path in libraries)
