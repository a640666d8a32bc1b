"""Actions from what the policy was trained on to what the robot understands."""

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.columns import Column
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.action_mapping import ActionMapping, joint_limits
from sqap_vla_ros.profiles.robot_profile import Action, Joint, Pose, RobotProfile

TWIST = ActionSpec(
    ('gripper', 'linear.x', 'linear.y', 'linear.z'), ('1', 'm/s', 'm/s', 'm/s'), 0.05, 2
)
JOINT = ActionSpec(('joint_velocity.j0', 'gripper'), ('rad/s', '1'), 0.05, 1)
QUARTER_TURN = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 2**-0.5, 2**-0.5))


def profile(action, **fields):
    return RobotProfile('arm', 'base', 'tool', (), (), action=action, **fields)


def test_without_scale_and_frame_a_chunk_stays_as_it_is():
    values = np.array([[1, 0.1, 0.2, 0.3], [0, 0.4, 0.5, 0.6]], np.float32)
    chunk = ActionChunk(values, TWIST, 7)
    mapped = ActionMapping(profile(Action()), TWIST).chunk(chunk)
    assert (mapped.values == values).all() and mapped.stamp_ns == 7


def test_twists_are_turned_and_scaled_and_the_gripper_is_not():
    chunk = ActionChunk(np.array([[1, 0.1, 0.2, 0.3]] * 2, np.float32), TWIST, 0)
    mapping = ActionMapping(profile(Action(linear_scale=0.5, policy_frame=QUARTER_TURN)), TWIST)
    assert mapping.chunk(chunk).values[0] == pytest.approx([1, -0.1, 0.05, 0.15])


def test_joints_get_the_robots_names():
    mapping = ActionMapping(
        profile(Action('joint_velocity', joint_scale=2.0), policy_joints={'j0': 'shoulder'}), JOINT
    )
    mapped = mapping.chunk(ActionChunk(np.array([[0.25, 1.0]], np.float32), JOINT, 0))
    assert mapped.spec.names == ('joint_velocity.shoulder', 'gripper')
    assert mapped.values[0] == pytest.approx([0.5, 1.0])


def test_twist_columns_may_be_the_joints_of_a_gantry():
    columns = {f'linear.{axis}': f'joint_velocity.slide_{axis}' for axis in 'xyz'}
    mapping = ActionMapping(
        profile(Action('joint_velocity', linear_scale=0.5, columns=columns)), TWIST
    )
    mapped = mapping.chunk(ActionChunk(np.array([[1, 0.1, 0.2, 0.3]] * 2, np.float32), TWIST, 0))
    assert mapped.spec.names == ('gripper', *columns.values())
    assert mapped.values[0] == pytest.approx([1, 0.05, 0.1, 0.15])


def test_a_chunk_that_is_not_finite_stays_so():
    values = np.full((2, 4), np.nan, np.float32)
    mapping = ActionMapping(profile(Action(linear_scale=0.5)), TWIST)
    assert not mapping.chunk(ActionChunk(values, TWIST, 0)).finite


def test_limits_are_those_of_the_profile():
    limits = joint_limits(
        profile(
            Action('joint_velocity'),
            joints=(Joint('shoulder', 'revolute', -1.0, 1.0, 2.0, 3.0, None),),
        )
    )
    joint = limits['shoulder']
    assert (joint.velocity, joint.acceleration, joint.jerk) == (2.0, 3.0, None)
    assert (joint.position_low, joint.position_high) == (-1.0, 1.0)
    assert joint_limits(profile(Action())) is None


def test_joint_positions_in_degrees_get_the_zero_and_direction_of_the_robot():
    spec = ActionSpec(('joint_position.a', 'joint_position.b'), ('deg', 'percent_signed'), 0.05, 1)
    joints = (
        Joint('a', policy_zero=1.0, policy_direction=-1),
        Joint('b', calibrated_range=(-1.0, 3.0)),
    )
    mapping = ActionMapping(profile(Action('joint_position'), joints=joints), spec)
    mapped = mapping.chunk(ActionChunk(np.array([[90.0, 50.0]]), spec, 0))
    assert mapped.values[0] == pytest.approx([1.0 - np.pi / 2, 2.0])
    assert mapped.spec.units == ('rad', 'rad')


def test_percent_without_a_calibrated_range_is_refused():
    spec = ActionSpec(('joint_position.b',), ('percent',), 0.05, 1)
    with pytest.raises(UserError, match='calibrated_range'):
        ActionMapping(profile(Action('joint_position'), joints=(Joint('b'),)), spec)


def tool_spec(rows):
    return ActionSpec.of(
        [
            *(Column(f'linear.{axis}', 'displacement', 'm', 'end_effector') for axis in 'xyz'),
            *(
                Column(f'angular.{axis}', 'displacement', 'rad', 'end_effector', 'axis_angle')
                for axis in 'xyz'
            ),
        ],
        0.1,
        rows,
    )


def test_actions_in_the_frame_of_the_end_effector_turn_with_it():
    spec, quarter = tool_spec(3), np.pi / 2
    mapping = ActionMapping(profile(Action()), spec)
    assert mapping.needs_orientation
    rows = np.array([[0.01, 0, 0, 0, 0, quarter]] * 3)
    mapped = mapping.chunk(ActionChunk(rows, spec, 0), np.array(QUARTER_TURN.quaternion_xyzw))
    # The tool looks along y, then -x, then -y of the base.
    assert mapped.values[:, :3] == pytest.approx(
        np.array([[0, 0.1, 0], [-0.1, 0, 0], [0, -0.1, 0]]), abs=1e-6
    )
    assert {column.frame for column in mapped.spec.columns} == {'base'}


def test_actions_in_the_frame_of_the_end_effector_need_its_orientation():
    spec = tool_spec(1)
    with pytest.raises(UserError, match='orientation'):
        ActionMapping(profile(Action()), spec).chunk(ActionChunk(np.zeros((1, 6)), spec, 0))


def test_a_policy_whose_columns_nobody_described_is_refused():
    spec = ActionSpec(('action.0', 'gripper'), ('1', '1'), 0.05, 1)
    with pytest.raises(UserError, match='--columns'):
        ActionMapping(profile(Action()), spec)
