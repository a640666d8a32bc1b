"""A stream of messages with a fault; free of rclpy."""

from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

PASSING = ('none', 'drop', 'delay', 'freeze', 'reorder', 'flood', 'old_stamp')
"""Faults that any stream can have; `freeze` and `old_stamp` change nothing without a header."""


class FaultyStream:
    """
    Applies a fault to a stream of messages. Not thread-safe; times are seconds, steady clock.

    Args:
        corruptions: Further faults: name to a function that returns a changed copy of a message.

    """

    def __init__(self, corruptions: dict[str, Callable]) -> None:
        self._corruptions = corruptions
        self.fault = 'none'
        self.delay_s, self.copies, self.stamp_shift_s = 1.0, 100, 10.0
        self._late: deque[tuple[float, Any]] = deque()
        self._frozen = self._held = None

    @property
    def faults(self) -> tuple[str, ...]:
        """Names that `set_fault` takes."""
        return *PASSING, *self._corruptions

    def set_fault(self, fault: str) -> None:
        """Change the fault and drop delayed messages. Raises KeyError for an unknown fault."""
        if fault not in self.faults:
            raise KeyError(fault)
        self.fault = fault
        self._late.clear()
        self._frozen = self._held = None

    def feed(self, message: Any, now_s: float) -> list:
        """Take a message; returns the messages to pass on now."""
        if self.fault in self._corruptions:
            return [self._corruptions[self.fault](message)]
        return getattr(self, f'_{self.fault}')(message, now_s)

    def due(self, now_s: float) -> list:
        """Return the messages whose delay is over."""
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
        """Repeat the first message, each time with a new stamp."""
        if self._frozen is None or not hasattr(message, 'header'):
            self._frozen = message
            return [message]
        repeated = copy(self._frozen)
        repeated.header = message.header
        return [repeated]

    def _reorder(self, message, _):
        """Swap the messages of each pair."""
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
