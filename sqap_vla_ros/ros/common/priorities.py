"""Priorities of threads: commands and stops do not wait for whatever else is computed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os
from threading import get_native_id

NICENESS = -10
"""Of the preferred threads, if the process may set it (root, or an rtprio/nice limit)."""


def prefer_this_thread(niceness: int = NICENESS) -> None:
    """Set the niceness of the calling thread; without the permission nothing happens."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), niceness)


@contextmanager
def preferred() -> Iterator[None]:
    """
    Prefer this thread for a while, and for good the threads that are started meanwhile.

    On Linux a thread has the niceness of the one that started it. The middleware starts
    the threads that receive messages with the first node of a process: make that within this
    context.
    """
    before = os.getpriority(os.PRIO_PROCESS, get_native_id())
    prefer_this_thread()
    try:
        yield
    finally:
        prefer_this_thread(before)
