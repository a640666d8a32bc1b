"""The policy is told its state in its own units, frame and representation."""

import math

import pytest

pytest.importorskip('rclpy')

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.columns import Column, ORIENTATIONS
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import PolicySpec, state_fields
from sqap_vla_ros.profiles.robot_profile import Action, Gripper, Joint, Pose, RobotProfile
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings
from sqap_vla_ros.ros.policy_node.robot_state import components, RobotState

SETTINGS = PolicyNodeSettings(
    gripper_joint='finger', gripper_open_position=0.04, gripper_closed_position=0.0
)
ACTION = ActionSpec(('gripper',), ('1',), 0.1, 1)
DOWN = Rotation.from_euler('xyz', [math.pi, 0, 0.1])


def profile(*joints, **fields):
    return RobotProfile('arm', 'base', 'tool', (), (), joints=joints, **fields)


def state(columns, arm=None, settings=SETTINGS, position=(0.1, 0.2, 0.3), turn=DOWN, **joints):
    spec = PolicySpec(
        (), action=ACTION, visual_tokens=1, token_grid=(1, 1), **state_fields(columns)
    )
    reader = RobotState(arm or profile(), spec, settings)
    return reader.vector((np.array(position), turn.as_quat()), {'finger': 0.01, **joints})


def tool(rotation, middle=None):
    unit = 'rad' if rotation in ('euler_xyz', 'axis_angle') else '1'
    middle = middle or [None] * len(ORIENTATIONS[rotation])
    return [
        Column(
            f'end_effector.{name}',
            'position',
            unit,
            'base',
            rotation,
            low=None if centre is None else centre - 0.5,
            high=None if centre is None else centre + 0.5,
        )
        for name, centre in zip(ORIENTATIONS[rotation], middle)
    ]


def test_positions_and_joints_are_in_the_policys_units():
    columns = [
        Column('end_effector.z', 'position', 'mm', 'base'),
        Column('joint.a', 'position', 'deg'),
        Column('joint.b', 'position', 'rad'),
    ]
    assert state(columns, a=math.pi / 2, b=-1.5) == pytest.approx([300, 90, -1.5])


def test_a_calibrated_range_is_read_from_the_profile():
    arm = profile(
        Joint('a', calibrated_range=(-1.0, 3.0)), Joint('b', calibrated_range=(3.0, -1.0))
    )
    columns = [
        Column('joint.a', 'position', 'percent_signed'),
        Column('joint.b', 'position', 'percent'),
        Column('joint.a', 'position', 'fraction'),
    ]
    assert state(columns, arm, a=2.0, b=2.0) == pytest.approx([50, 25, 0.75])


def test_zero_and_direction_of_a_joint_are_read_from_the_profile():
    arm = profile(Joint('a', policy_zero=math.pi / 2, policy_direction=-1))
    assert state([Column('joint.a', 'position', 'deg')], arm, a=0.0) == pytest.approx([90])


@pytest.mark.parametrize('rotation', ORIENTATIONS)
def test_orientation_has_the_policys_representation(rotation):
    values = state(tool(rotation)).astype(float)
    restored = {
        'euler_xyz': lambda x: Rotation.from_euler('xyz', x),
        'axis_angle': Rotation.from_rotvec,
        'quaternion_xyzw': Rotation.from_quat,
        'rotation_6d': lambda x: Rotation.from_matrix(
            np.stack([x[:3], x[3:], np.cross(x[:3], x[3:])], 1)
        ),
    }[rotation](values)
    assert (restored * DOWN.inv()).magnitude() < 1e-6


def test_orientation_is_given_in_the_frame_of_training():
    arm = profile(action=Action(policy_frame=Pose(quaternion_xyzw=tuple(DOWN.as_quat()))))
    assert state(tool('axis_angle'), arm) == pytest.approx([0, 0, 0], abs=1e-6)


@given(st.floats(-0.3, 0.3))
def test_a_hand_that_points_down_never_jumps_between_representations(tilt):
    turn = Rotation.from_euler('xyz', [math.pi + tilt, 0, 0])
    assert components(turn, 'axis_angle', [3.1, 0.0, 0.0])[0] == pytest.approx(math.pi + tilt)
    assert components(turn, 'euler_xyz', [3.1, 0.0, 0.0])[0] == pytest.approx(math.pi + tilt)
    assert components(turn, 'quaternion_xyzw', [1.0, 0.0, 0.0, 0.0])[0] > 0.9


def test_two_fingers_are_one_gripper():
    columns = [
        Column('gripper', 'ratio', 'm', opened=0.04, closed=0.0),
        Column('gripper_2', 'ratio', 'm', opened=-0.04, closed=0.0),
        Column('gripper_3', 'ratio', '1', opened=-1.0, closed=1.0),
    ]
    assert state(columns) == pytest.approx([0.01, -0.01, 0.5])


def test_an_assumed_gripper_is_told_in_the_policys_terms():
    arm = profile(gripper=Gripper(assumed=0.0))
    column = Column('gripper', 'ratio', 'percent', opened=100.0, closed=0.0)
    assert state([column], arm, PolicyNodeSettings(gripper_joint='')) == pytest.approx([100])


@pytest.mark.parametrize(
    ('column', 'arm', 'word'),
    [
        (Column('state.0', '', '1'), profile(), '--columns'),
        (Column('joint.a', 'position', 'percent'), profile(Joint('a')), 'calibrated_range'),
        (Column('joint.a', 'position', 'mm'), profile(Joint('a')), 'revolute'),
        (Column('joint.a', 'velocity', 'rad/s'), profile(), 'positions'),
        (Column('end_effector.x', 'position', 'm', 'camera'), profile(), 'camera'),
        (Column('end_effector.w', 'position', 'm', 'base'), profile(), 'not known'),
        (Column('force.x', 'position', '1'), profile(), 'not known'),
    ],
)
def test_what_cannot_be_measured_is_refused(column, arm, word):
    with pytest.raises(UserError, match=word) as caught:
        state([column], arm, a=0.0)
    assert '\n' not in str(caught.value)


def test_a_joint_without_an_end_is_told_by_the_turn_of_the_training_data():
    column = Column('joint.a', 'position', 'deg', low=-90.0, high=90.0)
    arm = profile(Joint('a', 'continuous', policy_zero=0.5))
    turned = 0.5 + math.radians(30) + 4 * math.pi
    assert state([column], arm, a=turned) == pytest.approx([30], abs=1e-3)
    # A target of the policy would be two turns away.
    spec = PolicySpec(
        (), action=ACTION, visual_tokens=1, token_grid=(1, 1), **state_fields([column])
    )
    positions = profile(*arm.joints, action=Action('joint_position'))
    low, high = RobotState(positions, spec, SETTINGS).plausible['a']
    assert (low, high) == pytest.approx((0.5 - 1.5 * math.pi, 0.5 + 1.5 * math.pi))
    assert math.isinf(RobotState(arm, spec, SETTINGS).plausible['a'][1])


def test_values_far_outside_the_training_data_are_told():
    column = Column('joint.a', 'position', 'deg', low=-90.0, high=90.0)
    spec = PolicySpec(
        (), action=ACTION, visual_tokens=1, token_grid=(1, 1), **state_fields([column])
    )
    reader = RobotState(profile(), spec, SETTINGS)
    assert not reader.far_outside(np.array([120.0], np.float32))
    assert 'joint.a is 5156 deg' in reader.far_outside(np.array([5156.0], np.float32))[0]
