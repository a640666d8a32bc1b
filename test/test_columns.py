"""Columns say what they are, or are refused."""

import pytest

from sqap_vla_ros.columns import check_state_column, Column, columns_from_plain, columns_from_units


@pytest.mark.parametrize(
    ('name', 'unit', 'quantity'),
    [
        ('linear.x', 'm', 'displacement'),
        ('linear.x', 'm/s', 'velocity'),
        ('angular.z', 'deg', 'displacement'),
        ('joint_position.a', 'deg', 'position'),
        ('joint_position.a', 'percent_signed', 'position'),
        ('joint_velocity.a', 'rad/s', 'velocity'),
        ('joint_velocity.a', 'rad', 'displacement'),
        ('joint.a', 'rad', 'position'),
        ('end_effector.x', 'mm', 'position'),
        ('end_effector.rx', 'rad', 'position'),
        ('end_effector.qw', '1', 'position'),
        ('gripper', '1', 'ratio'),
        ('gripper', 'm', ''),
        ('end_effector.rx', 'm', ''),
        ('action.0', '1', ''),
        ('joint.a', 'm/s', ''),
    ],
)
def test_name_and_unit_tell_the_quantity_or_nothing_does(name, unit, quantity):
    assert columns_from_units((name,), (unit,))[0].quantity == quantity


@pytest.mark.parametrize(
    ('fields', 'word'),
    [
        ({'unit': 'bananas'}, 'bananas'),
        ({'unit': 'm/s'}, 'position'),
        ({'quantity': 'speed'}, 'speed'),
        ({'frame': 'world'}, 'world'),
        ({'rotation': 'euler'}, 'euler'),
        ({'low': float('nan')}, 'finite'),
        ({'name': ''}, 'no name'),
        ({'name': 'joint.'}, 'name of the joint is missing'),
        ({'name': 'joint_position.'}, 'name of the joint is missing'),
        ({'name': 'gripper', 'quantity': 'ratio', 'unit': '1'}, 'opened'),
        (
            {'name': 'gripper', 'quantity': 'ratio', 'unit': '1', 'opened': 1, 'closed': 1},
            'opened',
        ),
        ({'quantity': 'ratio', 'unit': '1'}, 'gripper'),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        Column(**{'name': 'joint.a', 'quantity': 'position', 'unit': 'rad', **fields})


@pytest.mark.parametrize(
    ('name', 'unit', 'rotation', 'expected'),
    [
        ('end_effector.x', 'rad', '', 'm, mm, cm'),
        ('end_effector.x', '1', '', 'm, mm, cm'),
        ('end_effector.rx', 'm', 'axis_angle', 'rad, deg'),
        ('end_effector.roll', '1', 'euler_xyz', 'rad, deg'),
        ('end_effector.qx', 'deg', 'quaternion_xyzw', '1'),
        ('end_effector.r1', 'm', 'rotation_6d', '1'),
        ('joint.a', '1', '', 'rad, deg, fraction'),
    ],
)
def test_a_state_column_has_a_unit_of_what_is_measured(name, unit, rotation, expected):
    frame = 'base' if rotation else ''
    with pytest.raises(ValueError, match=f'one of the units .*{expected}'):
        check_state_column(Column(name, 'position', unit, frame, rotation))


def test_a_gripper_counts_from_open_to_closed():
    fingers = Column('gripper', 'ratio', 'm', opened=0.04, closed=0.0)
    assert fingers.closure(0.01) == pytest.approx(0.75)
    assert fingers.from_closure(0.75) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ('entry', 'word'),
    [
        ('linear.x', 'mapping'),
        ({'name': 'a', 'quantity': 'position'}, 'unit is missing'),
        ({'name': 'a', 'quantity': 'position', 'unit': 1}, 'quote'),
        ({'name': 'a', 'quantity': 'position', 'unit': 'm', 'size': 1}, 'size'),
        ({'name': 'a', 'quantity': 'position', 'unit': 'm', 'low': True}, 'number'),
    ],
)
def test_wrong_plain_data_is_refused_by_key(entry, word):
    with pytest.raises(ValueError, match=word):
        columns_from_plain([entry])
