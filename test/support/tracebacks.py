"""
No process that a test starts may show a traceback: whatever goes wrong is one line to the user.

A test for which that does not hold, such as one of Python itself, is marked `shows_traceback`.
"""

from collections.abc import Iterator
from functools import wraps
from pathlib import Path
import re

import pytest

from sqap_vla_ros.system.child_process import ChildProcess

TRACEBACK = re.compile(
    r'^(?P<who>(?:\[[\w.-]+\] )?)Traceback \(most recent call last\):\n'
    r'(?:(?P=who)[ \t].*\n)*(?:(?P=who)(?P<error>\w*))?',
    re.MULTILINE,
)
"""With what was raised, without its module and text; launch writes the process before a line."""
_BEFORE = 500
_logs: dict[Path, int] = {}
"""Log of each process to the characters that have been looked at."""


def pytest_configure() -> None:
    """Note the log of every `ChildProcess` from now on."""
    start = ChildProcess.__init__

    @wraps(start)
    def noted(self: ChildProcess, *arguments: object, **keywords: object) -> None:
        start(self, *arguments, **keywords)  # type: ignore[arg-type]
        _logs[self.log] = 0  # a second process writes its log anew

    ChildProcess.__init__ = noted  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def no_traceback(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a process has shown a traceback while the test ran."""
    yield
    found = new_tracebacks()
    if found and request.node.get_closest_marker('shows_traceback') is None:
        pytest.fail('a process has shown a traceback:\n' + '\n'.join(found), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Fail where one is in the output of the test: of processes without a log, and of threads."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if not report.passed or item.get_closest_marker('shows_traceback') is not None:
        return
    for name, text in report.sections:
        if name.startswith('Captured std') and name.endswith(call.when) and traceback_in(text):
            report.outcome = 'failed'
            report.longrepr = f'{name} has a traceback:\n{traceback_in(text)}'


def new_tracebacks() -> list[str]:
    """Return what processes have shown since the last call, each traceback with what is around."""
    return [text for log in _logs if (text := _new_traceback(log))]


def _new_traceback(log: Path) -> str:
    try:
        text = log.read_bytes().decode('utf-8', 'replace')
    except FileNotFoundError:
        return ''
    begin, _logs[log] = _logs[log], len(text)
    found = traceback_in(text, begin)
    return f'{log}: {found}' if found else ''


def traceback_in(text: str, begin: int = 0) -> str:
    """Return the first traceback from a character on, with what is before it, or ''."""
    for found in TRACEBACK.finditer(text, begin):
        # A test may stop a process while it still imports; installed programs catch that.
        if found['error'] != 'KeyboardInterrupt':
            return text[max(found.start() - _BEFORE, 0) : found.end()]
    return ''
