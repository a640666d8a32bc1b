"""The policy node, a policy that moves a joint steadily, and an arm that follows, over DDS."""

from contextlib import contextmanager
from functools import partial
import os
from pathlib import Path
import time

import pytest
from std_msgs.msg import String

from sqap_vla_ros.profiles.reading import load_profile

from support.dds import wait_until
from support.following_arm import FollowingArm
from support.joint_worker import JOINT_FILE, JOINT_NAMES
from support.policy_node_rig import PATIENCE_S, running

TESTS = Path(__file__).resolve().parents[1]
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
tracking: {TRACKING}
action: {space: joint_velocity}
outputs:
  - {type: OUTPUT, topic: arm_controller/joint_trajectory, horizon: 0.2 s}
rates: {command: 50 Hz, inference: 5 Hz}
"""
PARAMETERS = {
    # Limits for a busy machine, none of them decides where the arm goes.
    'autostart': 'true',
    'inference_deadline_s': 60.0,
    'observation_timeout_s': 10.0,
    'max_stamp_age_s': 10.0,
}


@contextmanager
def following(folder, output, tracking):
    """
    Start the node and an arm, and yield a `policy_node_rig.Rig` of them that is READY.

    Args:
        folder: for files and logs.
        output: type of the output.
        tracking: section `tracking` of the profile.
    """
    text = PROFILE.replace('OUTPUT', output).replace('TRACKING', tracking)
    if output == 'float64_multi_array':
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
