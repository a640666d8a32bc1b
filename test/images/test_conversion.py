"""Image messages to RGB: every encoding, and every way in which a message can lie."""

import io
import struct
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.images.conversion import compressed_image_to_rgb, image_to_rgb
from sqap_vla_ros.images.encodings import ENCODINGS, ImageError, ImageProblem


def make_image(samples, encoding, padding=0, big_endian=False):
    """Lay samples [height, width, channels] out as a sensor_msgs/Image does."""
    height, width = samples.shape[:2]
    stored = samples.astype(samples.dtype.newbyteorder('>' if big_endian else '<'))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, padding), 0xA5, np.uint8)])
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=int(big_endian),
        data=rows.tobytes(),
    )


def problem_of(call, *arguments, **keywords):
    """Return the problem that a conversion names, once its message is known to be one line."""
    with pytest.raises(ImageError) as caught:
        call(*arguments, **keywords)
    assert isinstance(caught.value, UserError)
    assert '\n' not in str(caught.value)
    return caught.value.reason


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(
    shapes,
    st.integers(0, 7),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [
            ('rgb8', [0, 1, 2]),
            ('bgr8', [2, 1, 0]),
            ('rgba8', [0, 1, 2, 3]),
            ('bgra8', [2, 1, 0, 3]),
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_colour_survives_channel_order_and_padding(shape, padding, big_endian, seed, encoding):
    name, order = encoding
    colour = np.random.default_rng(seed).integers(0, 256, (*shape, len(order)), dtype=np.uint8)
    message = make_image(colour[..., order], name, padding, big_endian)
    converted = image_to_rgb(message)
    assert converted.flags.c_contiguous and converted.dtype == np.uint8
    np.testing.assert_array_equal(converted, colour[..., :3])


@given(shapes, st.integers(0, 7), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_sixteen_bit_values_are_scaled_whatever_the_byte_order(shape, padding, big_endian, seed):
    values = np.random.default_rng(seed).integers(0, 65536, (*shape, 1), dtype=np.uint16)
    converted = image_to_rgb(make_image(values, 'mono16', padding, big_endian))
    expected = np.rint(values / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(converted, np.repeat(expected, 3, axis=2))


def test_a_byte_order_that_does_not_exist_is_rejected_where_it_matters():
    message = make_image(np.zeros((2, 2, 1), np.uint16), 'mono16')
    message.is_bigendian = 7
    assert problem_of(image_to_rgb, message) is ImageProblem.BAD_BYTE_ORDER
    message = make_image(np.zeros((2, 2, 1), np.uint8), 'mono8')
    message.is_bigendian = 7
    assert image_to_rgb(message).shape == (2, 2, 3)


def test_mono_is_repeated_over_the_channels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    expected = grey.repeat(3, axis=2)
    np.testing.assert_array_equal(image_to_rgb(make_image(grey, 'mono8', 2)), expected)


@pytest.mark.parametrize(
    'encoding, order, expected',
    [
        ('8UC3', 'rgb', [1, 2, 3]),
        ('8UC3', 'bgr', [3, 2, 1]),
        ('8UC4', 'rgb', [1, 2, 3]),
        ('8UC4', 'bgr', [3, 2, 1]),
        ('8UC1', 'mono', [1, 1, 1]),
    ],
)
def test_samples_without_a_meaning_are_what_the_profile_says_or_nothing(encoding, order, expected):
    samples = np.array([[[1, 2, 3, 4][: int(encoding[-1])]]], np.uint8)
    message = make_image(samples, encoding, padding=3)
    np.testing.assert_array_equal(image_to_rgb(message, color_order=order), [[expected]])
    for wrong in (None, 'rgb' if encoding == '8UC1' else 'mono'):
        assert problem_of(image_to_rgb, message, color_order=wrong) is ImageProblem.NO_COLOUR_ORDER
    with pytest.raises(ImageError, match=f'encoding {encoding} .* color_order .* profile'):
        image_to_rgb(message)


def test_an_encoding_that_says_its_order_is_not_changed_by_the_profile():
    message = make_image(np.array([[[1, 2, 3]]], np.uint8), 'bgr8')
    np.testing.assert_array_equal(image_to_rgb(message, color_order='rgb'), [[[3, 2, 1]]])


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1', '16SC1', '64FC1', '8UC2', '16UC3'])
def test_a_depth_image_is_no_picture(encoding):
    message = make_image(np.zeros((2, 2, 8), np.uint8), encoding)
    for order in (None, 'rgb', 'mono'):
        assert problem_of(image_to_rgb, message, color_order=order) is ImageProblem.NO_PICTURE
    with pytest.raises(ImageError, match=f'{encoding} holds measurements, such as depth'):
        image_to_rgb(message)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_mosaics_of_one_colour_give_that_colour(pattern, bits):
    colour = {'r': 250, 'g': 120, 'b': 10}
    tile = np.array([colour[letter] for letter in pattern], np.uint16).reshape(2, 2)
    mosaic = np.tile(tile, (6, 6))[..., None]
    mosaic = mosaic.astype(np.uint8) if bits == 8 else mosaic * np.uint16(257)
    converted = image_to_rgb(make_image(mosaic, f'bayer_{pattern}{bits}', padding=4))
    inside = converted[2:-2, 2:-2].reshape(-1, 3)
    np.testing.assert_array_equal(inside, [[250, 120, 10]] * len(inside))


@pytest.mark.parametrize(
    'name, red',
    [
        ('yuv422', [90, 82, 240, 82]),
        ('uyvy', [90, 82, 240, 82]),
        ('yuv422_yuy2', [82, 90, 82, 240]),
        ('yuyv', [82, 90, 82, 240]),
    ],
)
def test_yuv_of_pure_red_is_red(name, red):
    pixels = np.tile(np.array(red, np.uint8), (4, 3)).reshape(4, 6, 2)
    converted = image_to_rgb(make_image(pixels, name, padding=4)).astype(int)
    assert np.abs(converted - [255, 0, 0]).max() <= 4


def test_yuv_of_odd_width_is_rejected():
    message = make_image(np.zeros((2, 3, 2), np.uint8), 'yuyv')
    assert problem_of(image_to_rgb, message) is ImageProblem.BAD_STEP


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_supported_encoding_rejects_truncated_data(encoding):
    message = SimpleNamespace(
        height=4, width=4, encoding=encoding, step=64, is_bigendian=0, data=bytes(64 * 4 - 1)
    )
    assert problem_of(image_to_rgb, message) is ImageProblem.WRONG_LENGTH
    message.step = 1
    assert problem_of(image_to_rgb, message) is ImageProblem.BAD_STEP


@pytest.mark.parametrize('encoding', ['', 'rgb9', 'RGB8', 'rgb8\n[ERROR] forged', 'x' * 1_000_000])
def test_an_unknown_encoding_is_named_on_one_short_line(encoding):
    message = make_image(np.zeros((2, 2, 3), np.uint8), encoding)
    assert problem_of(image_to_rgb, message) is ImageProblem.UNKNOWN_ENCODING
    with pytest.raises(ImageError) as caught:
        image_to_rgb(message)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize('height, width', [(0, 4), (4, 0), (0, 0)])
def test_empty_images_are_rejected(height, width):
    message = SimpleNamespace(
        height=height, width=width, encoding='rgb8', step=3 * width, is_bigendian=0, data=b''
    )
    assert problem_of(image_to_rgb, message) is ImageProblem.EMPTY


def test_a_header_of_100_megapixels_is_rejected_before_its_data_are_touched():
    class Untouchable:
        def __len__(self):
            raise AssertionError('data were looked at')

    message = SimpleNamespace(
        height=10_000,
        width=10_000,
        encoding='rgb8',
        step=30_000,
        is_bigendian=0,
        data=Untouchable(),
    )
    assert problem_of(image_to_rgb, message) is ImageProblem.TOO_LARGE


def test_the_limit_on_pixels_is_inclusive():
    message = make_image(np.zeros((4, 5, 3), np.uint8), 'rgb8')
    assert image_to_rgb(message, max_pixels=20).shape == (4, 5, 3)
    assert problem_of(image_to_rgb, message, max_pixels=19) is ImageProblem.TOO_LARGE


def compressed(picture, file_format, message_format='', **options):
    """Compress a PIL image into the parts of a sensor_msgs/CompressedImage that are read."""
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return SimpleNamespace(format=message_format, data=buffer.getvalue())


def test_png_is_decoded_exactly_and_alpha_dropped():
    rgba = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    message = compressed(Image.fromarray(rgba), 'PNG', 'rgba8; png compressed bgra8')
    np.testing.assert_array_equal(compressed_image_to_rgb(message), rgba[..., :3])


def test_jpeg_is_decoded_in_rgb_order():
    orange = np.full((16, 16, 3), [240, 130, 20], np.uint8)
    message = compressed(Image.fromarray(orange), 'JPEG', 'rgb8; jpeg compressed bgr8', quality=95)
    assert np.abs(compressed_image_to_rgb(message).astype(int) - orange).max() <= 4


@pytest.mark.parametrize('orientation, corner', [(1, (0, 0)), (3, (7, 15)), (6, (0, 7))])
def test_a_file_that_says_to_be_turned_is_turned_as_opencv_does(orientation, corner):
    import cv2

    rgb = np.zeros((8, 16, 3), np.uint8)
    rgb[:4, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    message = compressed(Image.fromarray(rgb), 'JPEG', 'jpeg', quality=95, exif=exif.tobytes())
    turned = compressed_image_to_rgb(message)
    assert turned[corner].min() > 200
    read = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == read.shape
    assert np.abs(turned.astype(int) - read[..., ::-1]).max() < 40


@pytest.mark.parametrize('shape', [(1, 8, 1), (8, 2, 1)])
def test_a_mosaic_too_small_to_have_colours_is_rejected_not_black(shape):
    image = make_image(np.full(shape, 200, np.uint8), 'bayer_rggb8')
    assert problem_of(image_to_rgb, image) is ImageProblem.EMPTY


def test_sixteen_bit_png_is_scaled_like_mono16_and_without_that_name_it_is_depth():
    picture = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
    converted = compressed_image_to_rgb(compressed(picture, 'PNG', 'mono16; png compressed '))
    np.testing.assert_array_equal(converted[..., 0], [[0, 128, 255]])
    for text in ('png', '', '16UC1; png compressed ', '16UC1; compressedDepth png', '32FC1; png'):
        message = compressed(picture, 'PNG', text)
        assert problem_of(compressed_image_to_rgb, message) is ImageProblem.NO_PICTURE


@pytest.mark.parametrize(
    'text', ['8UC3; jpeg compressed ', '8UC3; png compressed ', 'rgb8; png compressed rgb8']
)
def test_swapped_colours_in_a_file_need_a_word_from_the_profile(text):
    message = compressed(Image.fromarray(np.array([[[9, 8, 7]]], np.uint8)), 'PNG', text)
    assert problem_of(compressed_image_to_rgb, message) is ImageProblem.NO_COLOUR_ORDER
    for order, expected in (('bgr', [9, 8, 7]), ('rgb', [7, 8, 9])):
        converted = compressed_image_to_rgb(message, color_order=order)
        np.testing.assert_array_equal(converted, [[expected]])


@pytest.mark.parametrize('text', ['', 'jpeg', 'png', 'mono8; jpeg compressed '])
def test_a_grey_picture_file_is_grey_whatever_its_format_is_called(text):
    message = compressed(Image.new('L', (16, 8), 77), 'JPEG', text, quality=95)
    assert np.abs(compressed_image_to_rgb(message).astype(int) - 77).max() <= 2


def test_grey_samples_without_a_name_are_grey_in_a_file_if_the_profile_says_so():
    message = compressed(Image.new('L', (4, 4), 5), 'PNG', '8UC1; png compressed ')
    assert problem_of(compressed_image_to_rgb, message) is ImageProblem.NO_COLOUR_ORDER
    assert (compressed_image_to_rgb(message, color_order='mono') == 5).all()


def test_a_mosaic_in_a_file_is_not_taken_for_a_grey_picture():
    message = compressed(Image.new('L', (4, 4), 5), 'PNG', 'bayer_rggb8; png compressed ')
    assert problem_of(compressed_image_to_rgb, message) is ImageProblem.NO_PICTURE
    message = compressed(Image.new('RGB', (4, 4)), 'PNG', 'bayer_rggb8; png compressed bgr8')
    assert compressed_image_to_rgb(message).shape == (4, 4, 3)


def test_bad_compressed_images_are_told_apart():
    good = compressed(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), 'PNG', 'png')
    truncated = SimpleNamespace(format='png', data=good.data[: len(good.data) - 40])
    cases = [
        (SimpleNamespace(format='jpeg', data=b''), ImageProblem.EMPTY),
        (
            SimpleNamespace(format='jpeg', data=b'GIF89a' + bytes(50)),
            ImageProblem.UNKNOWN_ENCODING,
        ),
        (
            SimpleNamespace(format='32FC1; compressedDepth png', data=good.data),
            ImageProblem.NO_PICTURE,
        ),
        (truncated, ImageProblem.UNDECODABLE),
    ]
    for message, problem in cases:
        assert problem_of(compressed_image_to_rgb, message) is problem
    assert problem_of(compressed_image_to_rgb, good, max_pixels=100) is ImageProblem.TOO_LARGE


# The filter that silences Pillow's own warning is undone by pytest between tests.
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_a_compressed_bomb_of_100_megapixels_is_rejected_by_its_header():
    bomb = compressed(Image.new('1', (10_000, 10_000)), 'PNG', 'png')
    assert problem_of(compressed_image_to_rgb, bomb) is ImageProblem.TOO_LARGE


@pytest.mark.parametrize('scans, good', [(5, True), (100, False)])
def test_a_jpeg_of_many_scans_is_rejected_before_it_is_decoded(scans, good):
    file = io.BytesIO()
    Image.new('RGB', (16, 16), (90, 100, 110)).save(file, 'JPEG', progressive=True)
    data = file.getvalue()
    data = data[:-2] + data[data.rfind(b'\xff\xda') : -2] * scans + data[-2:]
    message = SimpleNamespace(format='jpeg', data=data)
    if good:
        assert compressed_image_to_rgb(message).shape == (16, 16, 3)
    else:
        with pytest.raises(ImageError, match='scans, expected at most 20') as caught:
            compressed_image_to_rgb(message)
        assert caught.value.reason is ImageProblem.TOO_LARGE


@pytest.mark.parametrize('error', [IndexError('iCCP'), MemoryError(), struct.error('short')])
def test_whatever_a_decoder_raises_is_a_rejected_image(monkeypatch, error):
    def load(*_):
        raise error

    file = io.BytesIO()
    Image.new('RGB', (8, 8)).save(file, 'PNG')
    monkeypatch.setattr(PngImageFile, 'load', load)
    with pytest.raises(ImageError) as caught:
        compressed_image_to_rgb(SimpleNamespace(format='png', data=file.getvalue()))
    assert caught.value.reason is ImageProblem.UNDECODABLE
