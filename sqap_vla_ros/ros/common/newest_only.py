"""A thread for work that may take longer than the time between two items."""

from collections.abc import Callable
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar('T')


class NewestOnly(Generic[T]):
    """
    Works in a thread of its own on the newest item of each name; older ones are dropped.

    Args:
        work: Called with a name and its newest item; it must not raise.
        name: Of the thread.
    """

    def __init__(self, work: Callable[[str, T], None], name: str) -> None:
        self._work = work
        self._items: dict[str, T] = {}
        self._condition = Condition()
        self._stopping = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, name: str, item: T) -> bool:
        """Hand over an item; returns whether an older one of that name is dropped for it."""
        with self._condition:
            dropped = name in self._items
            self._items[name] = item  # in the place of the old one: every name has its turn
            self._condition.notify()
        return dropped

    def close(self) -> None:
        """Drop what waits, and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._items or self._stopping)
                if self._stopping:
                    return
                name = next(iter(self._items))
                item = self._items.pop(name)
            self._work(name, item)
            del item
