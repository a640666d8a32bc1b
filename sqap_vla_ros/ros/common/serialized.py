"""
Messages as they come over the wire, whose size is known before they are read.

rclpy makes Python objects of every field before a callback sees a message, which nothing can
interrupt: 0.3 s for a million names, 0.03 s for the pixels of a 4K image. Here a message that is
too large is not read at all, and the pixels of an image stay where they are.
"""

from dataclasses import dataclass
from functools import partial
import struct
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

_ENCAPSULATION = 4
"""Bytes before the first field, from whose end alignment counts."""
_ORDERS = {b'\0\0': '>', b'\0\1': '<'}
"""First bytes of plain CDR to its byte order; others are left to rclpy."""


@dataclass(frozen=True)
class ImageView:
    """The fields of sensor_msgs/Image; `data` is a view of the serialized message."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


@dataclass(frozen=True)
class CompressedImageView:
    """The fields of sensor_msgs/CompressedImage; `data` is a view of the serialized message."""

    header: Header
    format: str
    data: memoryview


def read_serialized(kind: type, data: bytes) -> Any:
    """
    Read a serialized message.

    Args:
        kind: Type of the message.
        data: The message, CDR.

    Returns:
        The message; an `ImageView` or a `CompressedImageView` in place of the two types of images.

    Raises:
        ValueError: An image is not what its type says.
        Exception: Whatever rclpy raises for other types.
    """
    reader = _READERS.get(kind)
    order = _ORDERS.get(bytes(data[:2]))
    if reader is None or order is None:
        return deserialize_message(data, kind)
    try:
        return reader(_Fields(data, order))
    except struct.error:
        raise ValueError('the message ends in the middle of a field') from None


class _Fields:
    """Reads one field after the other."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order, self._at = memoryview(data)[_ENCAPSULATION:], order, 0

    def number(self, kind: str) -> int:
        size = struct.calcsize(kind)
        self._at += -self._at % size
        (value,) = struct.unpack_from(self._order + kind, self._data, self._at)
        self._at += size
        return value

    def data(self) -> memoryview:
        length = self.number('I')
        view = self._data[self._at : self._at + length]
        if len(view) != length:
            raise ValueError(f'a field has {len(view)} of its {length} bytes')
        self._at += length
        return view

    def text(self) -> str:
        return bytes(self.data()).rstrip(b'\0').decode('utf-8')

    def header(self) -> Header:
        stamp = Time(sec=self.number('i'), nanosec=self.number('I'))
        return Header(stamp=stamp, frame_id=self.text())


def _image(fields: _Fields) -> ImageView:
    unsigned = partial(fields.number, 'I')
    return ImageView(
        fields.header(),
        unsigned(),
        unsigned(),
        fields.text(),
        fields.number('B'),
        unsigned(),
        fields.data(),
    )


def _compressed_image(fields: _Fields) -> CompressedImageView:
    return CompressedImageView(fields.header(), fields.text(), fields.data())


_READERS = {Image: _image, CompressedImage: _compressed_image}
