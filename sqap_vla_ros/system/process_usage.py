"""Memory, threads and file descriptors of processes, from /proc."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Resources that a process holds at one moment."""

    time_s: float
    """Steady clock."""
    memory_mb: float
    """Resident."""
    threads: int
    files: int
    """Open file descriptors."""


def usage(pid: int, time_s: float) -> Usage | None:
    """Read the usage of a process; None if there is no such process."""
    root = Path(f'/proc/{pid}')
    try:
        fields = dict(line.split(':', 1) for line in (root / 'status').read_text().splitlines())
        files = sum(1 for _ in (root / 'fd').iterdir())
        return Usage(time_s, int(fields['VmRSS'].split()[0]) / 1024, int(fields['Threads']), files)
    except (OSError, KeyError):  # gone, or a zombie
        return None


def children(pid: int) -> list[int]:
    """Process ids of the direct children, oldest first; empty if there is no such process."""
    found: list[int] = []
    try:
        for task in Path(f'/proc/{pid}/task').iterdir():
            found += map(int, (task / 'children').read_text().split())
    except OSError:
        pass
    return sorted(found)
