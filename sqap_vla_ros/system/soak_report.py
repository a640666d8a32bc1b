"""Measurements of a soak test and its verdict; free of ROS."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from sqap_vla_ros.system.process_usage import Usage

MAX_GROWTH = 0.02
"""Largest accepted growth of memory, as a fraction, from the second to the last fifth of a run."""


@dataclass
class SoakRecord:
    """Measurements of one soak test."""

    minutes: float
    samples: dict[str, list[Usage]] = field(default_factory=dict)
    """Process to its resources, in time order."""
    faults: dict[str, list[dict]] = field(default_factory=dict)
    """Fault to its occurrences: held, reaction_s, recovery_s (None: not within the limit)."""
    commands: int = 0
    command_gaps: int = 0
    """Commands more than 5 periods after their predecessor."""
    inferences: int = 0
    overruns: int = 0
    """Inferences that took longer than the chunk that they replace."""
    violations: dict[str, int] = field(default_factory=dict)
    """Motion limit to the number of published commands that broke it."""
    load: list[float] = field(default_factory=list)
    """The machine's load average."""
    crash: str = ''
    violating: list[dict] = field(default_factory=list)
    """Commands that broke a limit, with their predecessors."""

    def growth(self, process: str) -> float | None:
        """
        Relative change of memory: median of the last fifth over that of the second fifth.

        The first fifth fills caches. None with fewer than 15 samples.
        """
        memory = [sample.memory_mb for sample in self.samples.get(process, ())]
        if len(memory) < 15:
            return None
        fifth = len(memory) // 5
        return float(np.median(memory[-fifth:]) / np.median(memory[fifth : 2 * fifth]) - 1)

    def problems(self) -> list[str]:
        """List the reasons for which the soak test fails; empty if it passes."""
        found = [self.crash] if self.crash else []
        # The worker is replaced repeatedly, so its memory says nothing about growth.
        for process in self.samples:
            growth = self.growth(process)
            if process != 'worker' and growth is not None and growth > MAX_GROWTH:
                found.append(f'memory of {process} grew by {100 * growth:.1f} %')
        for fault, events in self.faults.items():
            stuck = sum(event['recovery_s'] is None for event in events)
            if stuck:
                found.append(f'{fault}: no recovery {stuck} times of {len(events)}')
            moved = sum(not event['held'] for event in events)
            if moved:
                found.append(f'{fault}: no hold {moved} times of {len(events)}')
        found += [
            f'{count} commands broke the limit of {name}'
            for name, count in self.violations.items()
        ]
        return found

    def to_dict(self) -> dict:
        """Return plain data for JSON."""
        return {
            **asdict(self),
            'problems': self.problems(),
            'growth': {process: self.growth(process) for process in self.samples},
        }


def text(record: SoakRecord) -> str:
    """Format processes, faults, commands and verdict as text."""
    lines = [
        f'{record.minutes:.1f} minutes, load average {_range(record.load)}',
        '',
        f'{"process":16} {"memory MB":>22} {"growth":>8} {"threads":>9} {"files":>9}',
    ]
    for process, samples in record.samples.items():
        growth = record.growth(process)
        lines.append(
            f'{process:16} {_range([s.memory_mb for s in samples]):>22} '
            f'{"" if growth is None else f"{100 * growth:+.1f} %":>8} '
            f'{_range([s.threads for s in samples], 0):>9} '
            f'{_range([s.files for s in samples], 0):>9}'
        )
    lines += [
        '',
        f'{"fault":32} {"times":>5} {"reaction p50/max s":>19} {"recovery p50/max s":>19}',
    ]
    for fault, events in sorted(record.faults.items()):
        lines.append(
            f'{fault:32} {len(events):5} {_p50_max(events, "reaction_s"):>19} '
            f'{_p50_max(events, "recovery_s"):>19}'
        )
    lines += [
        '',
        f'{record.commands} commands, {record.command_gaps} gaps; {record.inferences} '
        f'inferences, {record.overruns} missed deadlines',
    ]
    problems = record.problems()
    return '\n'.join(
        [
            *lines,
            *(f'PROBLEM: {problem}' for problem in problems),
            'FAILED' if problems else 'passed',
        ]
    )


def _range(values: Sequence[float], digits: int = 1) -> str:
    if not values:
        return '-'
    low, high = f'{min(values):.{digits}f}', f'{max(values):.{digits}f}'
    return low if low == high else f'{low} .. {high}'


def _p50_max(events: list[dict], key: str) -> str:
    values = [event[key] for event in events if event[key] is not None]
    return f'{np.median(values):.2f} / {max(values):.2f}' if values else '-'
