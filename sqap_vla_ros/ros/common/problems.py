"""Problems that come and go: each is told when it has lasted, and again when it comes again."""

from collections.abc import Callable, Iterable
import math
import time
from typing import NamedTuple

REPEAT_S = 10.0
"""Shortest time between two lines about one problem that comes and goes, or changes."""


class Problem(NamedTuple):
    """Something that people should know, and what they can do about it."""

    kind: str
    subject: str
    """Topic, node or argument. Kind and subject together are what the problem is known by."""
    text: str
    """One line, which stays the same while nothing changes."""
    patience_s: float = 0.0
    """How long it must last before it is told: what is being started is no problem yet."""


class ProblemLog:
    """
    Logs each problem once for every time that it appears.

    Args:
        warn: Called with one line.
        clock: Returns a time that only grows, s.
    """

    def __init__(
        self, warn: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._warn, self._clock = warn, clock
        self._since_s: dict[tuple[str, str], float] = {}
        """Problem to when it appeared."""
        self._told: dict[tuple[str, str], str] = {}
        """Problem to the line that was logged since it appeared."""
        self._told_s: dict[tuple[str, str], float] = {}

    def update(self, problems: Iterable[Problem]) -> list[str]:
        """
        Take note of all problems of this moment; what is not among them is over.

        Args:
            problems: The problems. Of several with one kind and subject the first counts.

        Returns:
            The lines of those that have lasted long enough.
        """
        now_s, lines = self._clock(), []
        present: dict[tuple[str, str], Problem] = {}
        for problem in problems:
            present.setdefault(problem[:2], problem)
        for key in self._since_s.keys() - present.keys():
            del self._since_s[key]
            self._told.pop(key, None)
        for key, told_s in list(self._told_s.items()):
            if key not in present and now_s - told_s >= REPEAT_S:
                del self._told_s[key]
        for key, problem in present.items():
            if now_s - self._since_s.setdefault(key, now_s) < problem.patience_s:
                continue
            lines.append(problem.text)
            recent = now_s - self._told_s.get(key, -math.inf) < REPEAT_S
            if self._told.get(key) != problem.text and not recent:
                self._told[key], self._told_s[key] = problem.text, now_s
                self._warn(problem.text)
        return lines
