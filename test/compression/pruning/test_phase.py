"""Fine and coarse work of the arm."""

import numpy as np

from sqap_vla_ros.compression.pruning.phase import PhaseGate


def test_work_is_fine_when_slow_or_when_the_gripper_moves_or_when_unknown():
    gate = PhaseGate(0.05)
    step = int(0.1e9)
    assert gate.fine(0, np.zeros(3), 0.0)
    assert not gate.fine(step, np.array([0.01, 0, 0]), 0.0)  # 0.1 m/s
    assert gate.fine(2 * step, np.array([0.012, 0, 0]), 0.0)  # 0.02 m/s
    assert gate.fine(3 * step, np.array([0.03, 0, 0]), 0.5)
    assert not gate.fine(4 * step, np.array([0.05, 0, 0]), None)
    assert gate.fine(5 * step, None, None)
    assert gate.fine(6 * step, np.zeros(3), None)
    gate.reset()
    assert gate.fine(7 * step, np.ones(3), None)
