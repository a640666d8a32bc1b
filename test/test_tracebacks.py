"""The guard against tracebacks of `support/tracebacks.py` sees them, once each."""

import sys

import pytest

from sqap_vla_ros.system.child_process import ChildProcess

from support.tracebacks import new_tracebacks


@pytest.mark.shows_traceback
def test_a_traceback_of_a_process_is_seen_once(tmp_path):
    process = ChildProcess('x', [sys.executable, '-c', '1/0'], tmp_path / 'log', {})
    assert process.wait(30) == 1
    (text,) = new_tracebacks()
    assert 'ZeroDivisionError' in text
    assert not new_tracebacks()
