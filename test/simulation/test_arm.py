"""The simulated arm moves like a real one, and the experts can do every task."""

import numpy as np
import pytest

pytest.importorskip('mujoco')
pytest.importorskip('metaworld')

from sqap_vla_ros.simulation.arm import (
    COMMAND_TIMEOUT_S,
    MAX_ACCELERATION_M_S2,
    MAX_SPEED_M_S,
    SimulatedArm,
)
from sqap_vla_ros.simulation.tasks import expert_action, TASKS


@pytest.fixture(scope='module')
def arm():
    """Make the panel of buttons."""
    arm = SimulatedArm('press_red')
    yield arm
    arm.close()


def drive(arm, velocity, seconds, period_s=0.02):
    """Command a velocity at 50 Hz; returns the positions on the way."""
    positions = [arm.end_effector_m]
    for _ in range(round(seconds / period_s)):
        arm.command(np.array(velocity), 1.0)
        arm.step(period_s)
        positions.append(arm.end_effector_m)
    return np.array(positions)


def test_it_goes_where_it_is_told_no_faster_than_a_real_arm(arm):
    arm.reset(seed=3)
    way = drive(arm, [5.0, 0.0, 0.0], 0.6)
    speeds = np.linalg.norm(np.diff(way, axis=0), axis=1) / 0.02
    assert way[-1, 0] > way[0, 0] + 0.08
    assert speeds.max() < 1.15 * MAX_SPEED_M_S
    # Once it has left where the reset put it, it gains speed as a ramp, not as a step.
    assert np.diff(speeds[3:]).max() < 1.15 * MAX_ACCELERATION_M_S2 * 0.02


def test_it_holds_still_when_commands_stop(arm):
    arm.reset(seed=3)
    drive(arm, [0.0, 0.2, 0.0], 0.3)
    arm.step(COMMAND_TIMEOUT_S + 0.5)
    before = arm.end_effector_m
    arm.step(0.5)
    assert np.linalg.norm(arm.end_effector_m - before) < 1e-3


@pytest.mark.parametrize('velocity', [[np.nan, 0, 0], [np.inf, 0, 0], [0, 0]])
def test_commands_that_are_no_velocity_are_refused(arm, velocity):
    with pytest.raises(ValueError):
        arm.command(np.array(velocity, float), 0.0)


def test_the_same_seed_gives_the_same_episode(arm):
    scenes = []
    for seed in (7, 8, 7):
        arm.reset(seed=seed)
        scenes.append((arm.image(), arm.state))
    np.testing.assert_array_equal(scenes[0][0], scenes[2][0])
    np.testing.assert_array_equal(scenes[0][1], scenes[2][1])
    assert (scenes[0][0] != scenes[1][0]).any()


def test_a_snapshot_continues_as_if_nothing_had_happened(arm):
    arm.reset(seed=5)
    drive(arm, [0.1, 0.1, -0.1], 0.2)
    snapshot = arm.snapshot()
    first = drive(arm, [0.1, 0.0, -0.1], 0.3)
    arm.restore(snapshot)
    second = drive(arm, [0.1, 0.0, -0.1], 0.3)
    np.testing.assert_allclose(first[1:], second[1:], atol=1e-9)
    # MuJoCo's positions of bodies lag its state by one step; after a restore they do not.
    np.testing.assert_allclose(first[0], second[0], atol=1e-3)


def test_the_camera_sees_the_gripper_where_it_says(arm):
    """Moving the gripper changes the image around its projection, and hardly elsewhere."""
    arm.reset(seed=11)
    before, start = arm.image().astype(int), arm.end_effector_m
    drive(arm, [0.2, 0.0, 0.0], 0.5)
    changed = np.abs(arm.image().astype(int) - before).sum(-1) > 60
    for point in (start, arm.end_effector_m):
        column, row, depth_m = arm.camera.project(point)
        assert 0.5 < depth_m < 1.5
        near = changed[
            max(0, round(row) - 12) : round(row) + 12,
            max(0, round(column) - 12) : round(column) + 12,
        ]
        assert near.any()


@pytest.mark.parametrize('name', TASKS)
def test_the_expert_does_every_task_in_seconds(name):
    arm = SimulatedArm(name)
    for seed in (21, 22):
        arm.reset(seed=seed)
        while arm.time_s < 8 and not arm.succeeded and not arm.failed:
            action = expert_action(arm)
            arm.command(action[:3], action[3])
            arm.step(0.05)
        assert arm.succeeded and 0.3 < arm.time_s < 8
    arm.close()


def test_pressing_another_button_fails_the_task():
    arm = SimulatedArm('press_red')
    arm.reset(seed=4, task='press_blue')
    task = arm.task
    arm.reset(seed=4, task='press_red')
    while arm.time_s < 8 and not arm.failed:
        arm.command(task.expert(arm), 1.0)
        arm.step(0.05)
    assert arm.failed and not arm.succeeded
    arm.close()
