"""Every fault of the fault table: repeated, timed against a limit, and reported as a table."""

from dataclasses import dataclass, field
import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from support.circling import SLACK
from support.dds import domain
from support.fault_rig import running

# Set by `make faults`.
REPEATS = int(os.environ.get('FAULT_REPEATS', 1))
ROBOT = os.environ.get('FAULT_ROBOT', 'stand-in')
JSON = os.environ.get('FAULT_JSON')


@dataclass
class Trial:
    """One occurrence of a fault."""

    reaction_s: float | None = None

    def reacted(self, fault_ns, reaction_ns):
        """Note when the fault happened and when the reaction to it began."""
        self.reaction_s = (reaction_ns - fault_ns) * 1e-9


@dataclass
class Row:
    """A line of the table."""

    fault: str
    reaction: str
    limit_s: float | None
    times_s: list[float] = field(default_factory=list)
    trials: int = 0
    violations: int = 0


ROWS: list[Row] = []


@pytest.fixture
def trials():
    """Yield `Trial`s of a fault of a rig; checks time limit, motion limits and health of each."""

    def repeat(rig, fault, reaction, limit_s=None, restarts=False):
        row = Row(fault, reaction, limit_s)
        ROWS.append(row)
        for _ in range(REPEATS):
            trial, before = Trial(), rig.audit.violations.total()
            pid = rig.process.pid
            yield trial
            row.trials += 1
            row.violations += rig.audit.violations.total() - before
            if trial.reaction_s is not None:
                row.times_s.append(trial.reaction_s)
            assert restarts or rig.process.pid == pid, 'the node was restarted'
            rig.healthy()
        assert row.violations == 0, rig.violations[-4:]
        if limit_s is not None:
            assert max(row.times_s) <= limit_s * SLACK, row.times_s

    return repeat


@pytest.fixture(scope='module')
def rig(request, tmp_path_factory):
    """Start a rig; a module's tests share it."""
    simulated = ROBOT == 'simulated'
    clock = getattr(request.module, 'CLOCK', False)
    with running(
        tmp_path_factory.mktemp('faults'), domain(), simulated and not clock, clock
    ) as rig:
        yield rig


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    if not ROWS:
        return
    write = terminalreporter.write_line
    write('')
    write(f'{"fault":44} {"reaction":34} {"limit":>7} {"p50":>7} {"max":>7} {"n":>4} violations')
    for row in ROWS:
        times = (
            [f'{1e3 * value:.0f}' for value in (np.median(row.times_s), max(row.times_s))]
            if row.times_s
            else ['', '']
        )
        limit = '' if row.limit_s is None else f'{1e3 * row.limit_s:.0f}'
        write(
            f'{row.fault:44} {row.reaction:34} {limit:>7} {times[0]:>7} {times[1]:>7} '
            f'{row.trials:>4} {row.violations:>10}'
        )
    write(
        f'times in ms; limits were multiplied by {SLACK:g}; load average '
        f'{os.getloadavg()[0]:.1f}; robot: {ROBOT}'
    )
    if JSON:
        Path(JSON).write_text(json.dumps([vars(row) for row in ROWS], indent=1) + '\n', 'utf-8')
