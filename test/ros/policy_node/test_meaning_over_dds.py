"""
A checkpoint that lerobot saved drives an arm over DDS: the arm ends where lerobot says.

The policies always want one action (`constant_pi0`), so that what the arm does follows from their
statistics by arithmetic, which is done here with numpy alone. The places where lerobot 0.6.1 does
the same are named beside it; `test_lerobot_parity` has actions that lerobot itself computed.

A relative action moves the target with every observation: an arm that follows would never rest.
Therefore the node of that test infers every 10 s only, the lowest rate that it takes, and a chunk
lasts as long: all of the motion comes from one chunk and one observation, made at standstill.
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

from support.constant_pi0 import ConstantPolicy
from support.dds import wait_until
from support.following_arm import FollowingArm
from support.policy_node_rig import PATIENCE_S, running

STEP_S = 0.1
MOTION_S = 2.0
TOLERANCE = 0.01
"""rad; m/s and rad/s."""
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


def so101(repository, path, **ranges):
    """Write the shipped profile, with the gripper on a topic: control_msgs may not be there."""
    text = (repository / 'config/robots/so101.yaml').read_text('utf-8')
    start = text.index('    - {type: gripper_command')
    end = text.index('}', start) + 1
    output = '    - {type: float64, topic: gripper_command, open: 1.74533, closed: -0.174533}'
    text = text[:start] + output + text[end:]
    for joint, ends in ranges.items():
        text = text.replace(
            f'{{name: {joint},', f'{{name: {joint}, calibrated_range: {list(ends)},'
        )
    path.write_text(text, 'utf-8')
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
        make_robot=partial(
            FollowingArm, profile=load_profile(str(profile)), joints=joints, **fields
        ),
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


def test_relative_actions_in_degrees_end_where_lerobot_says(tmp_path):
    # lerobot 0.6.1, processor/normalize_processor.py line 400: (x + 1) (q99 - q01) / 2 + q01.
    # processor/relative_action_processor.py line 80 adds state * mask. The state is that of the
    # observation before it is normalised (line 131; policies/pi0/processor_pi0.py has this step
    # before the normalizer); the mask leaves out names with 'gripper' (lines 114 to 118).
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
    parameters = {'inference_rate_hz': 0.1}
    with drive(tmp_path, imported, profile, measured, parameters=parameters) as rig:
        rig.wait_state('READY')
        assert_arrives(rig, dict(zip(robot, target)))
        assert len(rig.chunks) == 1, 'slower than a chunk: there was a second observation'
        assert wait_until(lambda: rig.robot.grippers, PATIENCE_S), rig.explain()
        assert rig.robot.grippers[-1].data == pytest.approx(1 - action[6] / 100, abs=1e-3)


DEGREES = 20.0, -30.0, 25.0, -15.0, 40.0
AT_10_HZ = '--step-s', '0.1'
"""The policy's rows decide how fast a position is approached; the stand-in's servos lag."""
AT_REST = dict(zip(SO101, (0.1, 0.2, -0.1, 0.0, 0.3))) | {'gripper': 0.0}


def absolute_policy(like, goal):
    """Make a policy of an SO-101 that wants joint positions, and the gripper 60 % open."""
    deviation = np.array([12.0, 15.0, 11.0, 9.0, 14.0, 8.0])
    x = np.array([0.6, -0.7, 0.4, 0.9, -0.2, 0.5])
    mean = np.array([*goal, 60.0]) - x * deviation
    statistics = {
        'mean': mean,
        'std': deviation,
        'min': mean - deviation,
        'max': mean + deviation,
    }
    state = {
        'mean': [0.0] * 5 + [50.0],
        'std': [40.0] * 5 + [20.0],
        'min': [-100.0] * 5 + [0.0],
        'max': [100.0] * 6,
    }
    return ConstantPolicy(like, file_names(SO101), tuple(x), statistics, state, ('wrist', 'side'))


def test_positions_in_degrees_are_reached_with_the_shipped_profile(repository, tmp_path):
    # lerobot 0.6.1, processor/normalize_processor.py line 361: x std + mean.
    imported = import_as_a_user(
        tmp_path, absolute_policy('degrees', DEGREES), 'so101_degrees', *AT_10_HZ
    )
    profile = so101(repository, tmp_path / 'so101.yaml')
    with drive(tmp_path, imported, profile, AT_REST) as rig:
        rig.wait_state('READY')
        assert_arrives(rig, dict(zip(SO101, np.radians(DEGREES))))
        assert wait_until(lambda: rig.robot.grippers, PATIENCE_S), rig.explain()
        opened, closed = 1.74533, -0.174533
        wanted = closed + 0.6 * (opened - closed)
        assert rig.robot.grippers[-1].data == pytest.approx(wanted, abs=2e-3)


def test_positions_in_percent_are_reached_with_a_calibrated_range(repository, tmp_path):
    # lerobot 0.6.1, processor/normalize_processor.py line 383: (x + 1) / 2 (max - min) + min.
    # motors/motors_bus.py: -100 and 100 are the ends of the calibrated range.
    percent = 15.0, -30.0, 25.0, -40.0, 20.0
    ends = ((-1.8, 1.9), (-1.7, 1.6), (1.6, -1.5), (-1.6, 1.6), (-2.7, 2.5))
    imported = import_as_a_user(
        tmp_path, absolute_policy('min_max', percent), 'so101_percent', *AT_10_HZ
    )
    profile = so101(repository, tmp_path / 'so101.yaml', **dict(zip(SO101, ends)))
    first, last = np.transpose(ends)
    target = first + (np.array(percent) + 100) / 200 * (last - first)
    with drive(tmp_path, imported, profile, AT_REST) as rig:
        rig.wait_state('READY')
        assert_arrives(rig, dict(zip(SO101, target)))


def test_positions_in_percent_are_refused_without_a_calibrated_range(repository, tmp_path):
    imported = import_as_a_user(tmp_path, absolute_policy('min_max', DEGREES), 'so101_percent')
    profile = so101(repository, tmp_path / 'so101.yaml')
    off = {'autostart': 'false'}
    with drive(tmp_path, imported, profile, AT_REST, parameters=off) as rig:
        rig.client.call(GetState, 'policy_node/get_state', GetState.Request(), PATIENCE_S)
        assert not rig.transition(1)  # configure
        log = rig.process.log.read_text()
        lines = [line for line in log.splitlines() if 'cannot configure' in line]
        assert len(lines) == 1 and 'Traceback' not in log
        assert 'calibrated_range' in lines[0] and "'shoulder_pan'" in lines[0]
        assert rig.process.status is None and not rig.robot.moved_s


PANDA = """
robot: Panda
simulated: true
run_on_hardware: false
base_frame: base
end_effector_frame: tool
cameras:
  image: {topic: camera/image_raw, optical_frame: camera, extrinsics: {source: none}}
end_effector_pose: {source: topic, topic: end_effector_pose}
joint_states: {topic: joint_states}
gripper:
  joint: finger
  unit: m
  open: 0.04
  closed: 0.0
  outputs:
    - {type: float64, topic: gripper_command, open: 0.0, closed: 1.0}
action:
  space: twist
  policy_frame: {position: [0.6, 0.1, -0.9], quaternion_xyzw: [0.0, 0.0, 0.6, 0.8]}
limits:
  linear_speed: 0.5 m/s
  angular_speed: 2.0 rad/s
  linear_acceleration: 2.0 m/s^2
  linear_jerk: 40 m/s^3
  stop_deceleration: 2.0 m/s^2
  stop_jerk: 40 m/s^3
  workspace_low: [-1.0, -1.0, 0.0]
  workspace_high: [1.0, 1.0, 1.0]
outputs:
  - {type: twist_stamped, topic: twist_command}
rates: {command: 50 Hz, inference: 5 Hz}
"""
LIBERO_ACTIONS = 'x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper'


def test_a_libero_policy_sees_its_state_and_moves_in_metres_per_second(tmp_path):
    # lerobot 0.6.1, processor/env_processor.py (LiberoProcessorStep): the state is a position, a
    # rotation vector and two fingers. 1.0 of an action is 0.05 m or 0.5 rad in a step of 0.05 s.
    x = np.array([0.5, -0.4, 0.3, 0.2, -0.6, 0.7, 0.4])
    deviation = np.array([0.3, 0.2, 0.4, 0.05, 0.06, 0.08, 0.9])
    action = np.array([0.2, -0.1, 0.08, 0.03, -0.05, 0.06, 1.0])
    centre = [-0.05, 0.03, 0.76, 3.0, -0.2, -0.1, 0.027, -0.027]  # a hand that points down
    policy = ConstantPolicy(
        'mean_std',
        LIBERO_ACTIONS,
        tuple(x),
        {'mean': action - x * deviation, 'std': deviation},
        {'mean': centre, 'std': [0.1, 0.15, 0.3, 0.3, 0.9, 0.3, 0.014, 0.014]},
        ('image',),
    )
    imported = import_as_a_user(tmp_path, policy, 'libero_lerobot')
    profile = tmp_path / 'panda.yaml'
    profile.write_text(PANDA)

    place = np.array([0.45, 0.15, 0.3])
    turn = Rotation.from_rotvec([0.0, 3.0, 0.0]) * Rotation.from_rotvec([0.0, 0.0, 0.4])
    yaw = 2 * np.arctan2(0.6, 0.8)
    cos, sin = np.cos(yaw), np.sin(yaw)
    frame = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])  # of the training, in the base
    rotation = frame.T @ turn.as_matrix()
    vector = Rotation.from_matrix(rotation).as_rotvec()
    other = vector * (1 - 2 * np.pi / np.linalg.norm(vector))  # the same rotation the other way
    vector = min((vector, other), key=lambda v: np.linalg.norm(v - centre[3:6]))
    state = [*(frame.T @ (place - [0.6, 0.1, -0.9])), *vector, 0.01, -0.01]
    linear, angular = frame @ action[:3] * 0.05 / 0.05, frame @ action[3:6] * 0.5 / 0.05

    pose = place, turn.as_quat()
    with drive(tmp_path, imported, profile, {'finger': 0.01}, pose=pose) as rig:
        rig.wait_state('READY')
        assert rig.goal(TASK, max_duration_s=60).accepted, rig.explain()

        def commanded():
            twist = rig.robot.twists[-1].twist
            return np.array(
                [[getattr(part, axis) for axis in 'xyz'] for part in (twist.linear, twist.angular)]
            )

        wanted = np.stack([linear, angular])
        assert wait_until(
            lambda: rig.robot.twists and np.abs(commanded() - wanted).max() < TOLERANCE, PATIENCE_S
        ), (rig.robot.twists and commanded(), wanted, rig.explain())
        assert rig.robot.grippers[-1].data == pytest.approx(1, abs=1e-3)
        bag = rig.service('save').message
        assert wait_until(lambda: f'written to {bag}' in rig.process.log.read_text(), PATIENCE_S)
    observed = [entry for _, entry in read_bag(tmp_path / bag) if isinstance(entry, Observed)]
    np.testing.assert_allclose(observed[0].observation.state, state, atol=1e-5)
    assert observed[0].observation.instruction == TASK
    seen, same = observed[0].decoded()
    assert same and seen.images
