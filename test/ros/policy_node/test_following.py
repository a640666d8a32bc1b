"""An arm whose servos lag, whose controller is deactivated, or whose measurements are wrong."""

from functools import partial
import os
from pathlib import Path
import time

import pytest

pytest.importorskip('rclpy')

import numpy as np
from std_msgs.msg import String

from sqap_vla_ros.profiles.reading import load_profile

from support.dds import wait_until
from support.following_arm import FollowingArm
from support.joint_worker import JOINT_FILE, JOINT_NAMES
from support.policy_node_rig import PATIENCE_S, running

TESTS = Path(__file__).resolve().parents[2]
SPEED, LIMIT = 0.5, 1.0
"""Of the policy, and of the profile, rad/s."""
JOINTS = {'shoulder': 0.0, 'elbow': 0.5}
PROFILE = """
robot: Arm with two joints
simulated: true
run_on_hardware: false
base_frame: base
end_effector_frame: tool
cameras:
  camera: {topic: camera/image_raw, optical_frame: camera, extrinsics: {source: none}}
end_effector_pose: {source: topic, topic: end_effector_pose}
joint_states: {topic: joint_states}
joints:
  - {name: shoulder, lower: -20 rad, upper: 20 rad, velocity: 1.0, acceleration: 4.0}
  - {name: elbow, lower: -20 rad, upper: 20 rad, velocity: 1.0, acceleration: 4.0}
tracking: {revolute_error: 0.8 rad, delay: 0.3 s}
action: {space: joint_velocity}
outputs:
  - {type: OUTPUT, topic: arm_controller/joint_trajectory, horizon: 0.2 s}
rates: {command: 50 Hz, inference: 5 Hz}
"""
KINDS = ['joint_trajectory', 'joint_trajectory_chunk', 'float64_multi_array']
PARAMETERS = {
    # Limits for a busy machine, as those of `tracking`: the stand-in stalls, too.
    'autostart': 'true',
    'inference_deadline_s': 60.0,
    'observation_timeout_s': 10.0,
    'max_stamp_age_s': 10.0,
}


@pytest.fixture(scope='module', params=KINDS)
def rig(request, tmp_path_factory):
    """Start the node with an arm that follows this output; the tests of one output share it."""
    folder = tmp_path_factory.mktemp(request.param)
    text = PROFILE.replace('OUTPUT', request.param)
    if request.param == 'float64_multi_array':
        text = text.replace('horizon: 0.2 s', 'interface: position')
    profile = folder / 'arm.yaml'
    profile.write_text(text, 'utf-8')
    joints = folder / 'joints'
    joints.write_text(f'{SPEED} 0.0', 'utf-8')
    parameters = {**PARAMETERS, 'profile': profile, 'black_box_directory': folder / 'bags'}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(JOINT_FILE, str(joints))
        patch.setenv(JOINT_NAMES, ','.join(JOINTS))
        path = [str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')]
        patch.setenv('PYTHONPATH', os.pathsep.join(path))
        with running(
            folder,
            'joints',
            *(part for name, value in parameters.items() for part in ('-p', f'{name}:={value}')),
            make_robot=partial(FollowingArm, profile=load_profile(str(profile)), joints=JOINTS),
            module='support.joint_policy_node',
        ) as rig:
            rig.wait_state('READY')
            yield rig


def go(rig):
    """Consent, until the node accepts it; returns once the arm has moved."""
    begun = rig.robot.positions['shoulder']

    def resumed():
        rig.robot.instruction.publish(String(data='go'))
        return rig.service('resume').success

    assert wait_until(resumed, PATIENCE_S, 0.1), rig.explain()
    assert wait_until(lambda: rig.robot.positions['shoulder'] - begun > 0.3, PATIENCE_S), (
        rig.explain()
    )


def wait_standing(rig):
    """Wait until the arm has stood still for a while."""

    def standing():
        before = rig.robot.positions
        time.sleep(0.5)
        return before == pytest.approx(rig.robot.positions, abs=1e-5)

    assert wait_until(standing, PATIENCE_S), rig.explain()


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
