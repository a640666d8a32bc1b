"""Rows of the fault table: an arm that is commanded by its joints does not do what it is told."""

from collections import Counter
import time
from types import SimpleNamespace

import pytest

from support.circling import SLACK
from support.dds import wait_until
from support.following_rig import following, go, SPEED, wait_standing
from support.policy_node_rig import PATIENCE_S

ERROR_RAD, DELAY_S = 0.1, 0.1
"""Defaults of a profile."""
LIMIT_S = ERROR_RAD / SPEED + DELAY_S + 0.1
"""The error grows as fast as the arm was commanded, beyond what a lag explains."""
TRACKING = '' if SLACK <= 1 else 'revolute_error: 0.8 rad, delay: 0.3 s'


@pytest.fixture(scope='module')
def rig(tmp_path_factory):
    """Start the node and the arm; what is commanded is checked by the tests themselves."""
    with following(tmp_path_factory.mktemp('faults'), 'joint_trajectory', TRACKING) as rig:
        rig.audit, rig.violations = SimpleNamespace(violations=Counter()), []
        rig.healthy = lambda: None
        yield rig


def held_at(rig, known):
    """Wait for a hold after the first `known` states; returns the time, ns."""
    assert wait_until(
        lambda: any(state.data.startswith('HOLDING') for state in rig.states[known:]),
        PATIENCE_S,
        0.002,
    ), rig.explain()
    return time.time_ns()


def test_a_deactivated_controller_is_noticed(rig, trials):
    for trial in trials(rig, 'controller deactivated', 'hold', LIMIT_S):
        go(rig)
        known, fault_ns = len(rig.states), time.time_ns()
        rig.robot.active = False
        trial.reacted(fault_ns, held_at(rig, known))
        assert 'tracking error: shoulder' in rig.state()
        wait_standing(rig)
        stood = rig.robot.positions
        rig.robot.active = True
        time.sleep(0.5)
        assert rig.robot.positions == pytest.approx(stood, abs=1e-6)


def test_servos_that_lag_do_not_stop_the_arm(rig, trials):
    for _ in trials(rig, 'servos lag by 50 ms', 'goes on'):
        go(rig)
        known = len(rig.states)
        time.sleep(1.0)
        assert not any(state.data.startswith('HOLDING') for state in rig.states[known:])
        rig.service('hold')
        wait_standing(rig)


def test_one_wrong_measurement_of_a_held_arm_moves_nothing(rig, trials):
    for _ in trials(rig, 'joint position wrong once, held', 'nothing moves'):
        go(rig)
        rig.service('hold')
        wait_standing(rig)
        stood = rig.robot.positions
        rig.robot.errors.append({'shoulder': 1.0})
        time.sleep(0.5)
        assert rig.robot.positions == pytest.approx(stood, abs=1e-5)
        time.sleep(1.0)  # nothing is resumed shortly after a jump
