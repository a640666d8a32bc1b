"""A stream of messages on its way through something broken. Free of rclpy."""

from collections import deque
from collections.abc import Callable
from copy import copy

PASSING = ('none', 'drop', 'delay', 'freeze', 'reorder', 'flood', 'old_stamp')
"""Faults that any stream can have; `freeze` and `old_stamp` change nothing without a header."""


class FaultyStream:
    """
    What comes out of a stream with a fault. One thread at a time; times are seconds, steady clock.

    corruptions: further faults, name to what turns a message into a wrong one.
    """

    def __init__(self, corruptions: dict[str, Callable]) -> None:
        self._corruptions = corruptions
        self.fault = 'none'
        self.delay_s, self.copies, self.stamp_shift_s = 1.0, 100, 10.0
        self._late = deque()
        self._frozen = self._held = None

    @property
    def faults(self) -> tuple[str, ...]:
        """Names that `set_fault` takes."""
        return *PASSING, *self._corruptions

    def set_fault(self, fault: str) -> None:
        """Change the fault; what was held back is lost. Raises KeyError for an unknown one."""
        if fault not in self.faults:
            raise KeyError(fault)
        self.fault = fault
        self._late.clear()
        self._frozen = self._held = None

    def feed(self, message, now_s: float) -> list:
        """Take in a message; returns those that go on at once."""
        if self.fault in self._corruptions:
            return [self._corruptions[self.fault](message)]
        return getattr(self, f'_{self.fault}')(message, now_s)

    def due(self, now_s: float) -> list:
        """Messages whose delay is over."""
        messages = []
        while self._late and self._late[0][0] <= now_s:
            messages.append(self._late.popleft()[1])
        return messages

    def _none(self, message, _):
        return [message]

    def _drop(self, *_):
        return []

    def _delay(self, message, now_s):
        self._late.append((now_s + self.delay_s, message))
        return []

    def _freeze(self, message, _):
        """Send the first one's content again and again, each time with a new stamp."""
        if self._frozen is None or not hasattr(message, 'header'):
            self._frozen = message
            return [message]
        repeated = copy(self._frozen)
        repeated.header = message.header
        return [repeated]

    def _reorder(self, message, _):
        """Send every pair of messages the wrong way round."""
        if self._held is None:
            self._held = message
            return []
        held, self._held = self._held, None
        return [message, held]

    def _flood(self, message, _):
        return [message] * self.copies

    def _old_stamp(self, message, _):
        if not hasattr(message, 'header'):
            return [message]
        old, header, stamp = copy(message), copy(message.header), copy(message.header.stamp)
        stamp.sec = max(stamp.sec - round(self.stamp_shift_s), 0)
        header.stamp = stamp
        old.header = header
        return [old]
