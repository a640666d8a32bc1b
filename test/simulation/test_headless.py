"""Rendering needs no screen, whichever module of the simulation is imported first."""

import os
import subprocess
import sys

import pytest

MODULES = 'simulation.tasks', 'simulation.arm', 'evaluation.runner', 'training.pipeline'


@pytest.mark.parametrize('module', MODULES)
def test_offscreen_rendering_is_chosen_before_mujoco_is_imported(module):
    pytest.importorskip('mujoco')
    environment = {key: value for key, value in os.environ.items() if key != 'MUJOCO_GL'}
    code = (
        f'import sqap_vla_ros.{module}, os; from mujoco import gl_context; '
        'print(os.environ["MUJOCO_GL"])'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout == 'egl\n', result.stderr
