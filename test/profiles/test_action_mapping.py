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


def test_a_renamed_column_has_the_direction_zero_and_kind_of_the_robots_joint():
    columns = {f'linear.{axis}': f'joint_velocity.slide_{axis}' for axis in 'xyz'}
    slides = [Joint(f'slide_{axis}', 'prismatic') for axis in 'yz']
    slides.append(Joint('slide_x', 'prismatic', policy_direction=-1))
    arm = profile(Action('joint_velocity', columns=columns), joints=tuple(slides))
    mapped = ActionMapping(arm, TWIST).chunk(ActionChunk(np.full((2, 4), 0.5), TWIST, 0))
    assert mapped.values[0] == pytest.approx([0.5, -0.5, 0.5, 0.5])
    turning = profile(Action('joint_velocity', columns=columns), joints=(Joint('slide_x'),))
    with pytest.raises(UserError, match="'slide_x' of the profile is revolute"):
        ActionMapping(turning, TWIST)
    swapped = {'joint_position.a': 'joint_position.b', 'joint_position.b': 'joint_position.a'}
    arm = profile(
        Action('joint_position', columns=swapped), joints=(Joint('a', policy_zero=1.0), Joint('b'))
    )
    spec = ActionSpec(('joint_position.a', 'joint_position.b'), ('rad', 'rad'), 0.05, 1)
    mapped = ActionMapping(arm, spec).chunk(ActionChunk(np.zeros((1, 2)), spec, 0))
    assert mapped.values[0] == pytest.approx([0.0, 1.0])
    assert mapped.spec.names == ('joint_position.b', 'joint_position.a')


def test_a_turning_column_may_be_the_joint_of_a_rotary_table():
    spec = ActionSpec(tuple(f'angular.{axis}' for axis in 'xyz'), ('rad/s',) * 3, 0.05, 1)
    columns = {f'angular.{axis}': f'joint_velocity.turn_{axis}' for axis in 'xyz'}
    mapped = ActionMapping(profile(Action('joint_velocity', columns=columns)), spec).spec
    assert mapped.names == tuple(columns.values()) and mapped.units == ('rad/s',) * 3


@pytest.mark.parametrize(
    'columns, words',
    [
        ({'linear.X': 'linear.y'}, 'linear.X: linear.y, and the policy has no such column'),
        ({'linear.x': 'angular.x'}, 'begins with linear. or joint_velocity.'),
        ({'linear.x': 'joint_position.a'}, 'begins with linear. or joint_velocity.'),
        ({'linear.x': 'gripper', 'gripper': 'linear.x'}, 'expected a name that begins with'),
        ({'gripper': 'linear.w'}, 'a gripper keeps its name'),
    ],
)
def test_a_column_keeps_its_meaning_when_it_is_renamed(columns, words):
    with pytest.raises(UserError, match=words):
        ActionMapping(profile(Action(columns=columns)), TWIST)


@pytest.mark.parametrize(
    'space, column',
    [('joint_velocity', 'joint_position.a'), ('joint_position', 'joint_velocity.a')],
)
def test_a_policy_that_commands_joints_otherwise_than_the_profile_is_refused(space, column):
    spec = ActionSpec((column,), ('rad' if 'position' in column else 'rad/s',), 0.05, 1)
    with pytest.raises(UserError, match=f'{column}.* does not fit action.space: {space}'):
        ActionMapping(profile(Action(space)), spec)


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
