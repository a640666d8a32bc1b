"""
No process that a test starts may show a traceback: whatever goes wrong is one line to the user.

A test for which that does not hold, such as one of Python itself, is marked `shows_traceback`.
"""

from collections.abc import Iterator
from functools import wraps
from pathlib import Path

import pytest

from sqap_vla_ros.system.child_process import ChildProcess

TRACEBACK = b'Traceback (most recent call last)'
_BEFORE, _AFTER = 500, 3000
_logs: dict[Path, int] = {}
"""Log of each process to the bytes that have been looked at."""


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


def new_tracebacks() -> list[str]:
    """Return what processes have shown since the last call, each traceback with what is around."""
    return [text for log in _logs if (text := _new_traceback(log))]


def _new_traceback(log: Path) -> str:
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return ''
    at, _logs[log] = data.find(TRACEBACK, _logs[log]), len(data)
    if at < 0:
        return ''
    return f'{log}: ' + data[max(at - _BEFORE, 0) : at + _AFTER].decode('utf-8', 'replace')
