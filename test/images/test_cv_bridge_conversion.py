"""cv_bridge gives the numbers that we give, and a broken one is as good as none."""

from itertools import product
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla_ros.images import cv_bridge_conversion
from sqap_vla_ros.images.conversion import (
    image_to_rgb,
    image_to_rgb_without_cv_bridge,
)
from sqap_vla_ros.images.encodings import ENCODINGS, ImageError, ImageProblem

SHAPES, PADDINGS = ((4, 6), (7, 8), (1, 2), (48, 64)), (0, 1, 3, 4, 12)
SAMPLE_BYTES = {'mono16': 2}
CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4}
CHANNELS |= dict.fromkeys(('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'), 2)


def random_image(encoding, height, width, padding=0, big_endian=False):
    """Make an image of random samples."""
    rng = np.random.default_rng([height, width, padding])
    size = SAMPLE_BYTES.get(
        encoding, 2 if encoding.startswith('bayer') and '16' in encoding else 1
    )
    row = width * CHANNELS.get(encoding, 1) * size
    rows = rng.integers(0, 256, (height, row), dtype=np.uint8)
    rows = np.hstack([rows, np.full((height, padding), 0xA5, np.uint8)])
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=row + padding,
        is_bigendian=int(big_endian),
        data=rows.tobytes(),
    )


@pytest.fixture
def working_cv_bridge():
    """Skip where cv_bridge is missing or does not work with this NumPy."""
    pytest.importorskip('cv_bridge')
    cv_bridge_conversion.load.cache_clear()
    if cv_bridge_conversion.load() is None:
        pytest.skip('cv_bridge does not work with this NumPy')


@pytest.mark.usefixtures('working_cv_bridge')
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_cv_bridge_and_our_conversion_give_the_same_numbers(encoding):
    bytes_a_pixel = cv_bridge_conversion.PIXEL_BYTES.get(encoding)
    for shape, padding, big_endian in product(SHAPES, PADDINGS, (False, True)):
        message = random_image(encoding, *shape, padding, big_endian)
        ours = image_to_rgb_without_cv_bridge(message)
        np.testing.assert_array_equal(image_to_rgb(message), ours)
        converted = cv_bridge_conversion.convert(message)
        if bytes_a_pixel and padding % bytes_a_pixel == 0 and not big_endian:
            assert converted.flags.c_contiguous and converted.dtype == np.uint8
            np.testing.assert_array_equal(converted, ours)
        else:
            assert converted is None


@pytest.mark.usefixtures('working_cv_bridge')
def test_cv_bridge_scales_every_sixteen_bit_value_as_we_do():
    message = random_image('mono16', 256, 256)
    message.data = np.arange(65536, dtype='<u2').tobytes()
    np.testing.assert_array_equal(
        cv_bridge_conversion.convert(message), image_to_rgb_without_cv_bridge(message)
    )


WORKING = """
import numpy as np

class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        return pixels if encoding == 'passthrough' else pixels[..., ::-1]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return what makes a package cv_bridge of some source text and of some compiled bytes."""

    def make(source, compiled=b'import numpy._core'):
        package = tmp_path / 'cv_bridge'
        (package / 'boost').mkdir(parents=True)
        (package / '__init__.py').write_text(source, 'utf-8')
        (package / 'boost' / 'cv_bridge_boost.so').write_bytes(compiled)

    for name in [name for name in sys.modules if name.split('.')[0] == 'cv_bridge']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    cv_bridge_conversion.load.cache_clear()
    yield make
    cv_bridge_conversion.load.cache_clear()
    sys.modules.pop('cv_bridge', None)


def test_a_working_cv_bridge_is_used(install):
    install(WORKING)
    message = random_image('bgr8', 4, 5)
    assert cv_bridge_conversion.convert(message) is not None
    np.testing.assert_array_equal(image_to_rgb(message), image_to_rgb_without_cv_bridge(message))


@pytest.mark.parametrize(
    'source',
    [
        'raise ImportError("numpy.core.multiarray failed to import")',
        'raise AttributeError("_ARRAY_API not found")',
        'raise SystemError("initialization of cv_bridge_boost raised unreported exception")',
        'class CvBridge: pass',
        WORKING.replace('pixels[..., ::-1]', 'pixels'),
    ],
)
def test_a_broken_cv_bridge_is_replaced_quietly(install, source, caplog, capfd):
    install(source)
    message = random_image('bgr8', 4, 5)
    with caplog.at_level(logging.DEBUG, logger=cv_bridge_conversion.__name__):
        for _ in range(3):
            np.testing.assert_array_equal(
                image_to_rgb(message), image_to_rgb_without_cv_bridge(message)
            )
    assert len(caplog.records) == 1 and 'without cv_bridge' in caplog.text
    assert capfd.readouterr() == ('', '')


def test_a_cv_bridge_of_numpy_1_is_not_even_loaded_under_numpy_2(install, monkeypatch):
    install('raise AssertionError("it was loaded")\n' + WORKING, b'import numpy.core.multiarray')
    monkeypatch.setattr(np, '__version__', '2.1.0')
    assert cv_bridge_conversion.load() is None
    assert 'cv_bridge' not in sys.modules


def test_a_cv_bridge_of_numpy_1_is_used_under_numpy_1(install, monkeypatch):
    install(WORKING, b'import numpy.core.multiarray')
    monkeypatch.setattr(np, '__version__', '1.26.4')
    assert cv_bridge_conversion.load() is not None


def test_an_image_that_cv_bridge_fails_on_is_converted_without_it(install):
    install(
        WORKING.replace('        pixels =', '        assert message.height == 1\n        pixels =')
    )
    message = random_image('bgr8', 4, 5)
    assert cv_bridge_conversion.load() is not None
    assert cv_bridge_conversion.convert(message) is None
    np.testing.assert_array_equal(image_to_rgb(message), image_to_rgb_without_cv_bridge(message))


def test_cv_bridge_sees_no_message_that_we_reject(install):
    install(
        WORKING.replace('        pixels =', '        assert message.height == 1\n        pixels =')
    )
    message = random_image('bgr8', 4, 5)
    message.data = message.data[:-1]
    with pytest.raises(ImageError) as caught:
        image_to_rgb(message)
    assert caught.value.reason is ImageProblem.WRONG_LENGTH
