"""
The entries of the last seconds, as far as they fit into a limit of bytes.

Images stay as they came while there is room. Once those that a JPEG would make smaller take more
than `RAW_SHARE` of the limit, a thread of low priority turns the oldest of them into JPEGs, one at
a time, of the quality with which the whole period fits. Where images come faster than that thread
encodes them, observations are left out, so that the period stays covered.
"""

import atexit
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
import os
from threading import Condition, get_native_id, Lock, Thread

from sqap_vla_ros.recording.entries import Entry, entry_bytes, Observed
from sqap_vla_ros.recording.images import KeptImage

RAW_SHARE = 0.4
"""Of the limit: what images may take that are kept as they came although a JPEG is smaller."""
RAW_MOST = 0.6
"""Of the limit: above this, observations are left out."""
START_QUALITY, LOWEST_QUALITY, HIGHEST_QUALITY = 90, 75, 95
"""Of JPEGs."""
NICENESS = 5
"""Of the thread that encodes: it takes what inferences leave."""


class _Item:
    """An entry, which is replaced by a smaller one, or by None where it is left out."""

    __slots__ = ('entry', 'shrinkable', 'size', 'time_ns', 'time_s')

    def __init__(self, entry: Entry, time_ns: int, time_s: float) -> None:
        self.entry: Entry | None = entry
        self.time_ns, self.time_s = time_ns, time_s
        self.size = entry_bytes(entry)
        self.shrinkable = shrinkable_bytes(entry)


class Ring:
    """
    Entries with their times; `add` may be called from any thread and is cheap.

    Args:
        seconds: how far back it reaches.
        limit_bytes: of the entries; the oldest leave first. An observation that takes most of it
            may be above it, alone, until it is encoded.
        report: called with one line when an image cannot be encoded.
    """

    def __init__(self, seconds: float, limit_bytes: int, report: Callable[[str], None]) -> None:
        self.seconds, self.limit_bytes = seconds, limit_bytes
        self.bytes = 0
        self._report = report
        self._items: deque[_Item] = deque()
        self._raw: deque[_Item] = deque()
        """Those with images that a JPEG makes smaller, oldest first."""
        self._raw_bytes = 0
        self._arrived: deque[tuple[float, int, int]] = deque()
        """When, bytes, and those that a JPEG makes smaller: of the observations that came."""
        self._lost_s = -float('inf')
        self._quality = START_QUALITY
        self._lock = Lock()
        self._work = Condition(self._lock)
        self._thread: Thread | None = None
        self._stopping = False
        if seconds:
            import cv2  # noqa: F401  Not while the arm moves: loading it holds Python's lock.

    def add(self, entry: Entry, time_ns: int, now_s: float) -> None:
        """
        Keep an entry.

        Args:
            entry: what happened.
            time_ns: when, nanoseconds.
            now_s: steady clock, seconds.
        """
        item = _Item(entry, time_ns, now_s)
        with self._lock:
            self._items.append(item)
            self.bytes += item.size
            if isinstance(entry, Observed):
                self._arrived.append((now_s, item.size, item.shrinkable))
            if item.shrinkable:
                self._raw.append(item)
                self._raw_bytes += item.shrinkable
            self._make_room(now_s)
            if self._raw_bytes > RAW_SHARE * self.limit_bytes:
                self._start()
                self._work.notify()

    def entries(self, now_s: float) -> tuple[list[tuple[int, Entry]], int, str]:
        """
        Return all entries, oldest first, with their times in nanoseconds.

        Returns:
            The entries, their bytes, and one line about what is missing of the period, or ''.
        """
        with self._lock:
            items = [(item.time_s, item.time_ns, item.entry) for item in self._items]
            size, lost_s = self.bytes, self._lost_s
        seen_s = [time_s for time_s, _, entry in items if isinstance(entry, Observed)]
        gaps = [time_s for time_s, _, entry in items if entry is None]
        # What is left out before the first observation is a beginning that is missing.
        first_s = min(seen_s, default=now_s)
        lost_s = max([lost_s, *(time_s for time_s in gaps if time_s < first_s)])
        missing = []
        if now_s - lost_s < self.seconds:
            missing.append(
                f'only the last {now_s - lost_s:.1f} s of {self.seconds:g} s: more than '
                f'{self.limit_bytes / 1e6:g} MB do not fit (black_box_mb)'
            )
        if count := sum(time_s > first_s for time_s in gaps):
            missing.append(
                f'{count} of {count + len(seen_s)} observations left out: their images came '
                'faster than JPEGs are made of them (a larger black_box_mb keeps more as they '
                'came)'
            )
        kept = [(time_ns, entry) for _, time_ns, entry in items if entry is not None]
        return kept, size, '; '.join(missing)

    def shrink_one(self) -> bool:
        """Turn the images of the oldest observation into JPEGs; False: there is room enough."""
        with self._lock:
            if self._raw_bytes <= RAW_SHARE * self.limit_bytes or not self._raw:
                return False
            item = self._raw[0]
            entry, quality = item.entry, self._quality
        assert isinstance(entry, Observed)
        smaller, encoded = dict(entry.images), 0
        try:
            for name, image in entry.images.items():
                if image.shrinks:
                    smaller[name] = min(image, image.as_jpeg(quality), key=_nbytes)
                    encoded += smaller[name].nbytes
        except Exception as error:  # nothing of an image may end this thread
            self._report(f'black box: an image is not encoded: {error}')
        with self._lock:
            if item.entry is entry:  # it may have left in the meantime
                self._put(item, replace(entry, images=smaller))
                self._adapt_quality(encoded, item)
                self._raw.remove(item)
                self._raw_bytes -= item.shrinkable
                item.shrinkable = 0
        return True

    def _put(self, item: _Item, entry: Entry | None) -> None:
        self.bytes -= item.size
        item.entry, item.size = entry, 0 if entry is None else entry_bytes(entry)
        self.bytes += item.size

    def _make_room(self, now_s: float) -> None:
        while self._items and self._items[0].time_s < now_s - self.seconds:
            self._drop()
        while self._arrived and self._arrived[0][0] < now_s - self.seconds:
            self._arrived.popleft()
        # The first one is being encoded. Where it alone takes most of the limit, it may be above.
        first = self._raw[0].shrinkable if self._raw else 0
        most = self.limit_bytes + (first if first > RAW_SHARE * self.limit_bytes else 0)
        while len(self._raw) > 1 and (
            self.bytes > most
            or (self._raw_bytes > RAW_MOST * self.limit_bytes and len(self._raw) > 2)
        ):
            item = self._raw[1]
            del self._raw[1]
            self._raw_bytes -= item.shrinkable
            self._put(item, None)
        while self._items and self.bytes > most:
            self._lost_s = self._drop()

    def _drop(self) -> float:
        """Forget the oldest entry; returns when it came, steady clock, seconds."""
        item = self._items.popleft()
        self.bytes -= item.size
        if item.shrinkable and item.entry is not None:
            self._raw.remove(item)
            self._raw_bytes -= item.shrinkable
        item.entry = None
        return item.time_s

    def _adapt_quality(self, encoded: int, item: _Item) -> None:
        """Compare the size of JPEGs with what they may take, by what has come so far."""
        if not self._arrived:
            return
        first_s, last_s = self._arrived[0][0], self._arrived[-1][0]
        factor = self.seconds / min(max(last_s - first_s, 0.5), self.seconds)
        raw = sum(shrinkable for _, _, shrinkable in self._arrived) * factor
        other = sum(size - shrinkable for _, size, shrinkable in self._arrived) * factor
        share = max((1 - RAW_MOST) * self.limit_bytes - other, 0) / max(raw, 1)
        if encoded > share * item.shrinkable:
            self._quality = max(self._quality - 5, LOWEST_QUALITY)
        elif encoded < 0.7 * share * item.shrinkable:
            self._quality = min(self._quality + 1, HIGHEST_QUALITY)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._run, name='black box images', daemon=True)
            self._thread.start()
            # OpenCV ends the process where Python ends one of its threads.
            atexit.register(self.close)

    def close(self) -> None:
        """Let the thread that encodes end."""
        with self._work:
            self._stopping = True
            self._work.notify()
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self.close)

    def _run(self) -> None:
        with suppress(OSError):  # of this thread alone, on Linux
            os.setpriority(os.PRIO_PROCESS, get_native_id(), NICENESS)
        while not self._stopping:
            if not self.shrink_one():
                with self._work:
                    self._work.wait_for(
                        lambda: self._stopping or self._raw_bytes > RAW_SHARE * self.limit_bytes
                    )


def _nbytes(image: KeptImage) -> int:
    return image.nbytes


def shrinkable_bytes(entry: Entry) -> int:
    """Return the bytes of those images of an entry that a JPEG would make smaller."""
    if not isinstance(entry, Observed):
        return 0
    return sum(image.nbytes for image in entry.images.values() if image.shrinks)
