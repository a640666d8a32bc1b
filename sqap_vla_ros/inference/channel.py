"""JSON messages over a socket; each is sent and received whole, within a deadline."""

from contextlib import suppress
import json
import select
import socket
import struct
import time
from typing import Any

HEADER = struct.Struct('!I')
"""Before each message: its length in bytes."""
MESSAGE_BYTES = 2**24
"""A longer message is refused before it is read; a chunk has a few thousand bytes."""


class MalformedMessage(Exception):
    """Bytes that are no message: nothing that follows them can be understood either."""


class Channel:
    """
    One end of a connection. One thread at a time may use it.

    Args:
        connection: A connected stream socket; the channel owns it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: dict[str, Any], deadline_s: float | None = None) -> None:
        """
        Send one message.

        Args:
            message: Plain data.
            deadline_s: Steady time until which all of it must be gone; None: wait for ever.

        Raises:
            TimeoutError: The other end does not read; the channel cannot be used any more.
            OSError: The other end is gone.
            MalformedMessage: The message is longer than `MESSAGE_BYTES`.
        """
        data = json.dumps(message).encode('utf-8')
        if len(data) > MESSAGE_BYTES:
            raise MalformedMessage(_too_long(len(data)))
        self._limit(deadline_s)
        try:
            self._socket.sendall(HEADER.pack(len(data)) + data)
        except BlockingIOError:
            raise TimeoutError from None

    def receive(self, deadline_s: float | None = None) -> dict[str, Any]:
        """
        Receive one message.

        Args:
            deadline_s: Steady time until which all of it must have come; None: wait for ever.

        Returns:
            Plain data, of any content.

        Raises:
            TimeoutError: It has not, or not all of it; the channel cannot be used any more.
            EOFError: The other end is gone.
            OSError: The same.
            MalformedMessage: What came is no message.
        """
        (length,) = HEADER.unpack(self._read(HEADER.size, deadline_s))
        if length > MESSAGE_BYTES:
            raise MalformedMessage(_too_long(length))
        try:
            message = json.loads(self._read(length, deadline_s))
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(f'it is not JSON: {" ".join(str(error).split())}') from None
        if not isinstance(message, dict):
            raise MalformedMessage(f'it is JSON of a {type(message).__name__}, not of an object')
        return message

    def silent(self) -> bool:
        """Whether the other end is there and has sent nothing that waits to be read."""
        watch = select.poll()
        watch.register(self._socket, select.POLLIN)
        return not watch.poll(0)

    def shut_down(self) -> None:
        """Let a thread that sends or receives find the other end gone; from any thread."""
        with suppress(OSError):  # the other end has closed it
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read(self, count: int, deadline_s: float | None) -> bytes:
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            self._limit(deadline_s)
            try:
                received = self._socket.recv_into(view[done:])
            except BlockingIOError:
                raise TimeoutError from None
            if not received:
                raise EOFError
            done += received
        return bytes(data)

    def _limit(self, deadline_s: float | None) -> None:
        # At 0 what has come in time is still read, by a process that was stopped meanwhile.
        self._socket.settimeout(
            None if deadline_s is None else max(deadline_s - time.monotonic(), 0.0)
        )


def _too_long(length: int) -> str:
    return f'it has {length} bytes, expected at most {MESSAGE_BYTES}'
