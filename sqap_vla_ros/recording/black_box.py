"""Keeps the last seconds in memory, and writes them to a bag when something goes wrong."""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
import shutil
from threading import Lock, Thread
import time

from sqap_vla_ros.recording.entries import Entry

PREFIX = 'black_box_'
KEPT_BAGS = 20
"""Number of bags kept in a directory; older ones are removed."""
PAUSE_S = 5.0
"""Shortest time between two automatic bags, seconds."""


class BlackBox:
    """
    A ring buffer of the entries of the last seconds.

    `add` may be called from any thread and is cheap. Bags are written in a separate thread, one at
    a time.
    """

    def __init__(
        self, seconds: float, directory: Path, report: Callable[[str], None] = lambda text: None
    ) -> None:
        """
        Start empty.

        Args:
            seconds: how far back it reaches; 0: it records nothing.
            directory: where bags are written; created when it is first needed.
            report: called with one line about each bag, written or not.
        """
        self._seconds, self._directory, self._report = seconds, directory, report
        self._entries: deque[tuple[float, int, Entry]] = deque()
        self._lock = Lock()
        self._writer: Thread | None = None
        self._saved_s = -float('inf')

    def add(self, entry: Entry, time_ns: int, now_s: float | None = None) -> None:
        """
        Keep an entry.

        Args:
            entry: what happened.
            time_ns: when, nanoseconds, on the clock of the observations.
            now_s: steady clock, seconds; None: now.
        """
        if not self._seconds:
            return
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self._entries.append((now_s, time_ns, entry))
            while self._entries[0][0] < now_s - self._seconds:
                self._entries.popleft()

    def save(self, asked: bool = False, now_s: float | None = None) -> tuple[bool, str]:
        """
        Start to write a bag of all entries.

        Args:
            asked: requested by the user; otherwise at most one bag every `PAUSE_S`.
            now_s: steady clock, seconds; None: now.

        Returns:
            Whether a bag is being written, and its path or the reason why not.
        """
        with self._lock:
            entries = [(time_ns, entry) for _, time_ns, entry in self._entries]
        now_s = time.monotonic() if now_s is None else now_s
        if not entries:
            return False, 'the black box is empty' if self._seconds else 'the black box is off'
        if self._writer is not None and self._writer.is_alive():
            return False, 'a bag is being written'
        if not asked and now_s - self._saved_s < PAUSE_S:
            return False, f'a bag was written less than {PAUSE_S:g} s ago'
        self._saved_s = now_s
        path = self._directory / f'{PREFIX}{datetime.now():%Y%m%d_%H%M%S_%f}'
        self._writer = Thread(target=self._write, args=(path, entries), daemon=True)
        self._writer.start()
        return True, str(path)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the bag that is being written is on disk."""
        if self._writer is not None:
            self._writer.join(timeout_s)

    def _write(self, path: Path, entries: list[tuple[int, Entry]]) -> None:
        try:
            from sqap_vla_ros.recording.bag_writer import write_bag
        except ImportError as error:
            self._report(
                f'black box not written: Python package {error.name} is missing; install it '
                'with: pip install rosbags'
            )
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bag(path, entries)
            for old in sorted(self._directory.glob(f'{PREFIX}*'))[:-KEPT_BAGS]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            self._report(f'black box not written to {path}: {error.strerror or error}')
        else:
            self._report(f'black box written to {path}; `sqap_vla replay {path}` runs it again')
