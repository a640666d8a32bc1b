import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.command import Command, CommandMapping, STILL
from sqap_vla_ros.errors import UserError


def spec(*columns, step_s=0.05):
    names, units = zip(*columns)
    return ActionSpec(names, units, step_s, 4)


LINEAR = [(f'linear.{axis}', 'm/s') for axis in 'xyz']
ANGULAR = [(f'angular.{axis}', 'rad/s') for axis in 'xyz']


def test_columns_are_found_by_name_in_any_order():
    mapping = CommandMapping(spec(('gripper', '1'), *reversed(LINEAR), *ANGULAR))
    command = mapping.command(np.array([0.7, 3, 2, 1, 4, 5, 6]))
    np.testing.assert_array_equal(command.linear_m_s, [1, 2, 3])
    np.testing.assert_array_equal(command.angular_rad_s, [4, 5, 6])
    assert command.gripper == 0.7


def test_absent_groups_are_commanded_zero_and_the_gripper_left_alone():
    command = CommandMapping(spec(*LINEAR)).command(np.ones(3))
    assert not command.angular_rad_s.any()
    assert command.gripper is None


def test_displacements_of_a_row_become_velocities():
    columns = [(name, unit[:-2]) for name, unit in LINEAR + ANGULAR]
    command = CommandMapping(spec(*columns, step_s=0.1)).command(np.full(6, 0.02))
    np.testing.assert_allclose(command.linear_m_s, 0.2)
    np.testing.assert_allclose(command.angular_rad_s, 0.2)


@pytest.mark.parametrize(
    'columns, named',
    [
        ([*LINEAR, ('elbow', 'rad')], 'elbow'),
        (LINEAR[:2], 'linear.z'),
        ([*LINEAR, *ANGULAR[:1]], 'angular.y'),
        ([*LINEAR[:2], ('linear.z', 'mm/s')], 'mm/s'),
        ([*LINEAR[:2], ('linear.z', 'm')], 'linear.z'),
        ([*LINEAR, ('gripper', 'm')], 'gripper'),
        ([*LINEAR, LINEAR[0]], 'linear.x'),
        ([('gripper', '1')], 'no motion'),
    ],
)
def test_a_wrong_column_is_named(columns, named):
    with pytest.raises(UserError, match=named) as error:
        CommandMapping(spec(*columns))
    assert '\n' not in str(error.value)


def test_a_command_is_read_only_and_owns_its_values():
    linear = np.ones(3)
    command = Command(linear, np.zeros(3))
    linear[0] = 5
    assert command.linear_m_s[0] == 1
    with pytest.raises(ValueError):
        command.linear_m_s[0] = 2


@pytest.mark.parametrize(
    'values',
    [
        ([np.nan, 0, 0], [0, 0, 0], 0),
        ([0, 0, 0], [0, np.inf, 0], 0),
        ([0, 0, 0], [0, 0, 0], np.nan),
    ],
)
def test_finite_looks_at_every_value(values):
    assert not Command(*values).finite
    assert STILL.finite


def test_still_does_not_mind_the_gripper():
    assert Command(np.zeros(3), np.zeros(3), 1.0).still
    assert not Command(np.zeros(3), [0, 0, 1e-9]).still


def test_a_command_of_another_shape_is_refused():
    with pytest.raises(ValueError, match='linear_m_s'):
        Command(np.zeros(4), np.zeros(3))
