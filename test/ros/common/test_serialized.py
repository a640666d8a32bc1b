"""Serialized messages: the same fields as rclpy reads, whatever is cut off or made up."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from sqap_vla_ros.images.conversion import image_to_rgb
from sqap_vla_ros.ros.common.serialized import read_serialized


def image(frame_id='camera', encoding='rgb8'):
    message = Image(height=2, width=3, encoding=encoding, step=9, is_bigendian=1)
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = -7, 8
    message.data = bytes(range(18))
    return message


def compressed(frame_id='camera', form='jpeg'):
    message = CompressedImage(format=form, data=bytes(range(5)))
    message.header.frame_id = frame_id
    return message


@pytest.mark.parametrize('make', [image, compressed])
@pytest.mark.parametrize('text', ['', 'a', 'ab', 'abc', 'abcd', 'ä', 'x' * 1000])
def test_images_are_read_as_rclpy_reads_them(make, text):
    for message in (make(frame_id=text), make('camera', text)):
        read = read_serialized(type(message), serialize_message(message))
        for name in message.get_fields_and_field_types():
            expected, found = getattr(message, name), getattr(read, name)
            assert (bytes(found) == bytes(expected)) if name == 'data' else found == expected


def test_the_pixels_are_not_copied():
    data = serialize_message(image())
    rgb = image_to_rgb(read_serialized(Image, data))
    assert np.shares_memory(rgb, np.frombuffer(data, np.uint8))


def test_a_big_endian_message_is_read():
    data = bytearray(b'\0\0\0\0')
    for number in (1, 2, 1):
        data += number.to_bytes(4, 'big')
    data += b'\0' + b'\0' * 3 + (5).to_bytes(4, 'big') + b'jpeg\0' + b'\0' * 3
    data += (2).to_bytes(4, 'big') + b'\xff\xd8'
    read = read_serialized(CompressedImage, bytes(data))
    assert (read.header.stamp.sec, read.header.stamp.nanosec, read.format) == (1, 2, 'jpeg')
    assert bytes(read.data) == b'\xff\xd8'


@pytest.mark.parametrize('make', [image, compressed])
def test_whatever_is_cut_off_or_changed_is_an_error_or_an_image(make):
    whole, generator = serialize_message(make()), np.random.default_rng(0)
    for length in range(4, len(whole) - 3):  # the last bytes may be padding
        with pytest.raises(ValueError):
            read_serialized(type(make()), whole[:length])
    for _ in range(2000):
        data = bytearray(whole)
        data[generator.integers(4, len(data))] = generator.integers(256)
        try:
            read = read_serialized(type(make()), bytes(data))
        except ValueError:
            continue
        assert len(read.data) <= len(whole)


def test_other_types_are_left_to_rclpy():
    message = JointState(name=['a'], position=[1.0])
    data = serialize_message(message)
    assert read_serialized(JointState, data) == deserialize_message(data, JointState) == message
