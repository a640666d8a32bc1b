"""The processes that run episodes end with the command, also when it is killed."""

import signal
import subprocess
import sys

import pytest

from sqap_vla_ros.system.child_process import wait_until

from support.processes import runs

pytestmark = pytest.mark.slow

EVALUATION = """
import os, sys, time
from pathlib import Path
from sqap_vla_ros.evaluation import runner

def compute(folder):
    (Path(folder) / str(os.getpid())).touch()
    while True:
        pass

if __name__ == '__main__':
    runner._run_job = compute
    results = runner._local_results([sys.argv[1]] * 2, 2)
    from threading import Thread
    Thread(target=next, args=(results,), daemon=True).start()
    while len(list(Path(sys.argv[1]).iterdir())) < 2:
        time.sleep(0.05)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_evaluation_leaves_no_process_computing(tmp_path, monkeypatch):
    script, folder = tmp_path / 'evaluation.py', tmp_path / 'pids'
    script.write_text(EVALUATION)
    folder.mkdir()
    monkeypatch.setenv('PYTHONPATH', ':'.join(sys.path))
    done = subprocess.run([sys.executable, script, folder], timeout=300)
    assert done.returncode == -signal.SIGKILL
    pids = [int(path.name) for path in folder.iterdir()]
    assert len(pids) == 2
    assert wait_until(lambda: not any(map(runs, pids)), 20)
