"""Keeps the last seconds in memory, and writes them to a bag when something goes wrong."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
import os
from pathlib import Path
import shutil
import tempfile
from threading import Thread
import time

from sqap_vla_ros.recording.entries import Entry, Observed
from sqap_vla_ros.recording.ring import Ring

PREFIX = 'black_box_'
KEPT_BAGS = 20
"""Number of bags kept in a directory; older ones are removed."""
PAUSE_S = 5.0
"""Shortest time between two automatic bags, seconds."""
LIMIT_BYTES = 256 * 10**6
"""Of the entries in memory, and about that of a bag: 10 s of two 4K cameras at 5 Hz, as JPEG."""
SPARE_BYTES = 10**9
"""A bag is not written where the disk would have less than this left."""
ABANDONED_S = 3600.0
"""A bag that nobody has written to for this long is of a process that was killed."""
_METADATA = 'metadata.yaml'


class BlackBox:
    """
    Entries of the last seconds, as far as they fit into its bytes; see `Ring`.

    `add` may be called from any thread and is cheap. Bags are written in a separate thread, one at
    a time. A bag is written beside its place, synced to the disk and then renamed, so that a full
    disk leaves no partial bag. Directory and files are for their owner alone: they are pictures of
    a place.
    """

    def __init__(
        self,
        seconds: float,
        directory: Path,
        report: Callable[[str], None] = lambda text: None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        """
        Start empty.

        Args:
            seconds: how far back it reaches; 0: it records nothing.
            directory: where bags are written; created when it is first needed.
            report: called with one line about each bag, written or not.
            limit_bytes: of the entries; the oldest leave first.
        """
        self._directory, self._report = directory, report
        self._ring = Ring(seconds, limit_bytes, report)
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
        if self._ring.seconds:
            self._ring.add(entry, time_ns, time.monotonic() if now_s is None else now_s)

    def save(self, asked: bool = False, now_s: float | None = None) -> tuple[bool, str]:
        """
        Start to write a bag of all entries.

        Args:
            asked: requested by the user; otherwise at most one bag every `PAUSE_S`.
            now_s: steady clock, seconds; None: now.

        Returns:
            Whether a bag is being written, and its path or the reason why not.
        """
        now_s = time.monotonic() if now_s is None else now_s
        entries, size, short = self._ring.entries(now_s)
        if not entries:
            return (
                False,
                'the black box is empty' if self._ring.seconds else 'the black box is off',
            )
        if self._writer is not None and self._writer.is_alive():
            return False, 'a bag is being written'
        if not asked and now_s - self._saved_s < PAUSE_S:
            return False, f'a bag was written less than {PAUSE_S:g} s ago'
        self._saved_s = now_s
        path = self._directory / f'{PREFIX}{datetime.now():%Y%m%d_%H%M%S_%f}'
        self._writer = Thread(target=self._write, args=(path, entries, size, short), daemon=True)
        self._writer.start()
        return True, str(path)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the bag that is being written is on disk."""
        if self._writer is not None:
            self._writer.join(timeout_s)

    def _write(self, path: Path, entries: list[tuple[int, Entry]], size: int, short: str) -> None:
        try:
            from sqap_vla_ros.recording.bag_writer import write_bag
        except ImportError as error:
            self._report(
                f'black box not written: Python package {error.name} is missing; install it '
                'with: pip install rosbags'
            )
            return
        partial = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clean(self._directory)
            free = shutil.disk_usage(path.parent).free
            if free < size + SPARE_BYTES:
                self._report(
                    f'black box not written to {path}: {free / 1e9:.1f} GB are free, a bag of '
                    f'{size / 1e9:.1f} GB would leave less than {SPARE_BYTES / 1e9:g}'
                )
                return
            # Readable by its owner alone, and so is what is written into it.
            partial = Path(tempfile.mkdtemp(prefix=f'.{PREFIX}', dir=path.parent))
            write_bag(partial / path.name, entries, {'limited': short} if short else {})
            _make_private(partial / path.name)
            os.rename(partial / path.name, path)
            _clean(self._directory)
        except Exception as error:  # a bag must never cost the node its thread
            reason = getattr(error, 'strerror', None) or error
            self._report(f'black box not written to {path}: {reason}')
        else:
            again = f'`sqap_vla replay {path}` runs it again'
            if not any(isinstance(entry, Observed) for _, entry in entries):
                again = 'the policy has seen nothing in that time, so there is nothing to replay'
            self._report(f'black box written to {path}{f", {short}" if short else ""}; {again}')
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)


def _make_private(bag: Path) -> None:
    """Sync a bag to the disk, and let nobody but its owner read it."""
    for path in [*bag.iterdir(), bag]:
        os.chmod(path, 0o700 if path == bag else 0o600)
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _clean(directory: Path) -> None:
    """Remove all but the newest whole bags, and what a killed process has left."""
    bags = sorted(path for path in directory.glob(f'{PREFIX}*') if path.is_dir())
    whole = [path for path in bags if (path / _METADATA).is_file()]
    for path in {*bags} - {*whole[-KEPT_BAGS:]}:
        shutil.rmtree(path, ignore_errors=True)
    for path in directory.glob(f'.{PREFIX}*'):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)
