"""Triton kernels compile ahead of time for every GPU generation they are meant for."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip('triton', reason='Triton is not installed (pip install triton)')


@pytest.mark.parametrize('capability', [80, 87, 89, 90, 100, 120])
def test_kernels_compile(capability):
    # In a separate process: this one runs Triton's interpreter.
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    environment['PYTHONPATH'] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, '-m', 'support.compile_for', str(capability)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f'sm_{capability} ') >= 7
