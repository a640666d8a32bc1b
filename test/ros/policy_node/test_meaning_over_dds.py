"""
A checkpoint as lerobot saves it is imported and drives an arm over DDS: it ends where lerobot says.

The policies always want one action (`constant_pi0`), so that what the arm does follows from their
statistics by arithmetic, which is done here with numpy alone. That lerobot does the same arithmetic
is written beside it, and shown by the golden actions of `test_lerobot_parity`.

A relative action moves the target with every observation: an arm that follows would never rest.
Therefore the node infers every 10 s only (the lowest rate that it takes) and a chunk lasts as long,
so that all of the motion comes from one chunk and one observation, made while the arm stood still.
"""

from functools import partial

import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.srv import GetState
import numpy as np
from scipy.spatial.transform import Rotation

from sqap_vla_ros.cli import main
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.recording.bag_reader import read_bag
from sqap_vla_ros.recording.entries import Observed

from support.constant_pi0 import ConstantPolicy, HORIZON
from support.dds import wait_until
from support.following_arm import FollowingArm
from support.policy_node_rig import PATIENCE_S, running

STEP_S = 0.1
MOTION_S = 2.0
TOLERANCE = 0.01
"""rad."""
TASK = 'pick up red cup'

ARM = """
robot: Arm with six joints
simulated: true
run_on_hardware: false
base_frame: base
end_effector_frame: tool
cameras:
  camera: {topic: camera/image_raw, optical_frame: camera, extrinsics: {source: none}}
end_effector_pose: {source: topic, topic: end_effector_pose}
joint_states:
  topic: joint_states
  policy_names: {shoulder_pan: arm_joint_1}
joints:
  - {name: arm_joint_1, lower: -2.5, upper: 2.5, velocity: 1.0, acceleration: 5.0}
  - {name: shoulder_lift, lower: -100 deg, upper: 100 deg, velocity: 1.0, acceleration: 5.0,
     policy_zero: 90 deg, policy_direction: -1}
  - {name: elbow_flex, lower: -2.5, upper: 2.5, velocity: 1.0, acceleration: 5.0,
     policy_zero: -0.2}
  - {name: wrist_flex, lower: -2.5, upper: 2.5, velocity: 1.0, acceleration: 5.0}
  - {name: wrist_yaw, lower: -2.5, upper: 2.5, velocity: 1.0, acceleration: 5.0}
  - {name: wrist_roll, lower: -2.5, upper: 2.5, velocity: 1.0, acceleration: 5.0}
gripper:
  joint: jaw
  unit: rad
  open: 1.5
  closed: 0.0
  outputs:
    - {type: float64, topic: gripper_command, open: 0.0, closed: 1.0}
action: {space: joint_position}
outputs:
  - {type: float64_multi_array, topic: position_controller/commands, interface: position}
rates: {command: 50 Hz, inference: 5 Hz}
"""
JOINTS = 'shoulder_pan', 'shoulder_lift', 'elbow_flex', 'wrist_flex', 'wrist_yaw', 'wrist_roll'
SO101 = 'shoulder_pan', 'shoulder_lift', 'elbow_flex', 'wrist_flex', 'wrist_roll'


def file_names(joints):
    """Names of the columns in a dataset of lerobot."""
    return tuple(f'{joint}.pos' for joint in (*joints, 'gripper'))


def write_columns(path, joints):
    """Write what the columns mean: joints in degrees, the gripper 0 (closed) to 100 (open)."""
    gripper = '{name: gripper, quantity: ratio, unit: percent, opened: 100, closed: 0}'
    lines = ['dataset: six_joints', f'step_s: {STEP_S}']
    for part, prefix in (('action', 'joint_position.'), ('state', 'joint.')):
        lines += [f'{part}:']
        lines += [f'  - {{name: {prefix}{j}, quantity: position, unit: deg}}' for j in joints]
        lines += [f'  - {gripper}']
    path.write_text('\n'.join(lines) + '\n')
    return path


def import_as_a_user(folder, policy, columns, *options):
    """Write the folder of a policy and import it from the command line."""
    policy.write(folder / 'released')
    imported = folder / 'imported'
    arguments = [str(folder / 'released'), str(imported), '--columns', str(columns), *options]
    assert main(['import', *arguments]) == 0
    return imported


def drive(tmp_path, policy, profile, joints, **fields):
    """Run the node and an arm that follows; a context manager."""
    # Limits for a busy machine: none of them decides where the arm goes.
    parameters = {
        'profile': profile,
        'autostart': 'true',
        'acknowledge_untested_profile': 'true',
        'inference_rate_hz': 0.1,
        'inference_deadline_s': 60.0,
        'observation_timeout_s': 30.0,
        'max_stamp_age_s': 30.0,
        'black_box_s': 600.0,
        'black_box_directory': tmp_path / 'bags',
        **fields.pop('parameters', {}),
    }
    return running(
        tmp_path,
        policy,
        *(part for name, value in parameters.items() for part in ('-p', f'{name}:={value}')),
        make_robot=partial(FollowingArm, profile=load_profile(str(profile)), joints=joints, **fields),
    )


def assert_arrives(rig, wanted):
    """Check that the arm is where it should be after `MOTION_S`, and stays there."""
    assert rig.goal(TASK, max_duration_s=60).accepted, rig.explain()
    arm = rig.robot
    assert wait_until(lambda: arm.moved_s >= MOTION_S, PATIENCE_S), rig.explain()
    names = list(wanted)

    def error():
        return np.array([arm.positions[name] - wanted[name] for name in names])

    # On a busy machine the command loop lags behind; what is wrong never gets there.
    wait_until(lambda: np.abs(error()).max() < TOLERANCE, 3.0)
    for _ in range(20):
        assert np.abs(error()).max() < TOLERANCE, dict(zip(names, error()))
        wait_until(lambda: False, 0.02)
    assert len(rig.chunks) == 1, 'slower than the chunk: what was checked is not one chunk'


def test_relative_actions_in_degrees_end_where_lerobot_says(tmp_path):
    """
    lerobot 0.6.1, processor/normalize_processor.py line 400: action = (x + 1) (q99 - q01) / 2 + q01;
    processor/relative_action_processor.py line 80: actions += state * mask, where the state is the
    one of the observation before its normalisation (line 131; processor_pi0.py has that step before
    the normalizer), and the mask leaves out names that contain 'gripper' (lines 114 to 118).
    """
    rng = np.random.default_rng(1)
    offsets = np.array([14.0, -11.0, 17.0, -20.0, 9.0, 25.0])  # deg
    x = rng.uniform(-0.8, 0.8, 7)
    half = rng.uniform(8, 15, 7)
    middle = np.append(offsets, 30.0) - x * half  # the gripper: 30 % open, and not relative
    statistics = {'q01': middle - half, 'q99': middle + half}
    policy = ConstantPolicy(
        'relative_degrees',
        file_names(JOINTS),
        tuple(x),
        statistics,
        {'q01': [-100.0] * 6 + [0.0], 'q99': [100.0] * 6 + [100.0]},
    )
    columns = write_columns(tmp_path / 'columns.yaml', JOINTS)
    imported = import_as_a_user(tmp_path, policy, columns)
    profile = tmp_path / 'arm.yaml'
    profile.write_text(ARM)
    start = dict(zip(JOINTS, (0.3, 0.9, 0.6, 0.2, -0.4, 1.0)))

    q01, q99 = (np.array(statistics[name]) for name in ('q01', 'q99'))
    action = (x + 1) * (q99 - q01) / 2 + q01
    # The policy counts shoulder_lift from 90 deg downwards, and elbow_flex from -0.2 rad.
    zero = np.array([0, np.pi / 2, -0.2, 0, 0, 0])
    direction = np.array([1, -1, 1, 1, 1, 1])
    state = np.degrees((np.array([*start.values()]) - zero) / direction)
    target = zero + direction * np.radians(state + action[:6])
    robot = ('arm_joint_1', *JOINTS[1:])
    measured = {name: start[joint] for name, joint in zip(robot, JOINTS)} | {'jaw': 0.75}
    with drive(tmp_path, imported, profile, measured) as rig:
        rig.wait_state('READY')
        assert_arrives(rig, dict(zip(robot, target)))
        assert wait_until(lambda: rig.robot.grippers, PATIENCE_S), rig.explain()
        assert rig.robot.grippers[-1].data == pytest.approx(1 - action[6] / 100, abs=1e-3)
