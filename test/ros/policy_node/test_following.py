"""An arm whose servos lag, whose controller is deactivated, or whose measurements are wrong."""

import time

import pytest

pytest.importorskip('rclpy')

import numpy as np

from support.dds import wait_until
from support.following_rig import following, go, LIMIT, SPEED, wait_standing
from support.policy_node_rig import PATIENCE_S

KINDS = ['joint_trajectory', 'joint_trajectory_chunk', 'float64_multi_array']
TRACKING = 'revolute_error: 0.8 rad, delay: 0.3 s'
"""For a busy machine: the stand-in stalls, too."""


@pytest.fixture(scope='module', params=KINDS)
def rig(request, tmp_path_factory):
    """Start the node with an arm that follows this output; the tests of one output share it."""
    with following(tmp_path_factory.mktemp('following'), request.param, TRACKING) as rig:
        yield rig


def speeds(history):
    """Mean speeds of the shoulder over at least 0.1 s each, rad/s."""
    found, (begun_s, begun) = [], history[0]
    for now_s, positions in history:
        if now_s - begun_s >= 0.1:
            found.append((positions['shoulder'] - begun['shoulder']) / (now_s - begun_s))
            begun_s, begun = now_s, positions
    return np.array(found)


def test_an_arm_that_lags_is_followed(rig):
    go(rig)
    known = len(rig.states)
    begun = len(rig.robot.history)
    time.sleep(2.0)
    assert not any('tracking error' in state.data for state in rig.states[known:])
    assert rig.state().startswith('RUNNING'), rig.explain()
    assert np.median(speeds(rig.robot.history[begun:])) == pytest.approx(SPEED, rel=0.1)
    rig.service('hold')
    wait_standing(rig)


def test_a_deactivated_controller_holds_and_only_consent_moves_the_arm_again(rig):
    arm = rig.robot
    go(rig)
    known = len(rig.states)
    arm.active = False
    assert wait_until(
        lambda: any(state.data.startswith('HOLDING') for state in rig.states[known:]), PATIENCE_S
    ), rig.explain()
    held = next(s.data for s in rig.states[known:] if s.data.startswith('HOLDING'))
    assert 'tracking error: shoulder does not follow the commands' in held
    wait_standing(rig)
    stood, sent = arm.positions, len(arm.commands)
    arm.active = True
    time.sleep(1.0)
    assert arm.positions == pytest.approx(stood, abs=1e-6)
    assert len(arm.commands) == sent  # where they would lead, the arm is not
    begun = len(arm.history)
    go(rig)
    moved = speeds(arm.history[begun:])
    assert moved.min() > -0.02 and moved.max() < (SPEED + LIMIT) / 2
    rig.service('hold')
    wait_standing(rig)


@pytest.mark.parametrize('stop', ['hold', 'estop'])
def test_a_wrong_measurement_does_not_move_an_arm_that_is_held(rig, stop):
    arm = rig.robot
    go(rig)
    assert rig.service(stop).success
    wait_standing(rig)
    stood, sent = arm.positions, len(arm.commands)
    for error in (1.0, -10.0):  # both are possible positions
        arm.errors += [{'shoulder': error}] * 3
        time.sleep(0.3)
    assert arm.positions == pytest.approx(stood, abs=1e-5)
    for command in arm.commands[sent:]:
        points = getattr(command, 'points', None)
        for values in [command.data] if points is None else [p.positions for p in points]:
            assert list(values) == pytest.approx([stood['shoulder'], stood['elbow']], abs=2e-3)
    time.sleep(1.0)  # nothing is resumed shortly after a jump
    rig.service('reset_estop')
