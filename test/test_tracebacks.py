"""The guard against tracebacks of `support/tracebacks.py` sees them, once each."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from sqap_vla_ros.system.child_process import ChildProcess

from support.tracebacks import new_tracebacks, pytest_runtest_makereport, traceback_in


@pytest.mark.shows_traceback
def test_a_traceback_of_a_process_is_seen_once(tmp_path):
    process = ChildProcess('x', [sys.executable, '-c', '1/0'], tmp_path / 'log', {})
    assert process.wait(30) == 1
    (text,) = new_tracebacks()
    assert 'ZeroDivisionError' in text
    assert not new_tracebacks()


def test_a_process_that_is_stopped_while_it_imports_is_none(tmp_path):
    ChildProcess(
        'x', [sys.executable, '-c', 'raise KeyboardInterrupt'], tmp_path / 'log', {}
    ).wait(30)
    assert 'KeyboardInterrupt' in (tmp_path / 'log').read_text()
    assert not new_tracebacks()


def test_what_launch_writes_before_each_line_hides_no_traceback():
    line = '[node-1] Traceback (most recent call last):\n[node-1]   File "x"\n[node-1] {}: why\n'
    assert 'ValueError' in traceback_in('before\n' + line.format('ValueError'))
    assert not traceback_in(line.format('KeyboardInterrupt'))


def test_the_output_of_other_processes_is_looked_at(request, capfd):
    subprocess.run([sys.executable, '-c', '1/0'], check=False)
    report = SimpleNamespace(
        passed=True, outcome='passed', sections=[('Captured stderr call', capfd.readouterr().err)]
    )
    checking = pytest_runtest_makereport(request.node, SimpleNamespace(when='call'))
    next(checking)
    with pytest.raises(StopIteration):
        checking.send(SimpleNamespace(get_result=lambda: report))
    assert report.outcome == 'failed' and 'ZeroDivisionError' in report.longrepr
