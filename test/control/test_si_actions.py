"""Chunks in a dataset's units become SI, or are refused."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.columns import Column
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.errors import UserError

STEP_S = 0.2


def spec(*columns, rows=1):
    return ActionSpec.of(columns, STEP_S, rows)


def converted(columns, *rows):
    actions = SiActions(spec(*columns, rows=len(rows)))
    return actions.chunk(
        ActionChunk(np.array(rows, np.float32), spec(*columns, rows=len(rows)), 5)
    )


def moves(unit, quantity='displacement', frame='base'):
    return [Column(f'linear.{axis}', quantity, unit, frame) for axis in 'xyz']


def turns(rotation='axis_angle', quantity='displacement', unit='rad', frame='base'):
    return [Column(f'angular.{axis}', quantity, unit, frame, rotation) for axis in 'xyz']


@pytest.mark.parametrize(
    ('columns', 'value', 'expected', 'unit'),
    [
        (moves('m'), 0.03, 0.15, 'm/s'),
        (moves('mm'), 30, 0.15, 'm/s'),
        (moves('mm/s', 'velocity'), 150, 0.15, 'm/s'),
        (turns(), 0.08, 0.4, 'rad/s'),
        (turns(unit='deg'), 18, np.pi / 2, 'rad/s'),
        ([Column('joint_position.a', 'position', 'deg')], 90, np.pi / 2, 'rad'),
        ([Column('joint_position.a', 'position', 'mm')], 20, 0.02, 'm'),
        ([Column('joint_velocity.a', 'displacement', 'deg')], 18, np.pi / 2, 'rad/s'),
        ([Column('gripper', 'ratio', '1', opened=1, closed=0)], 0.25, 0.75, '1'),
        ([Column('gripper', 'ratio', '1', opened=-1, closed=1)], 0, 0.5, '1'),
        ([Column('gripper', 'ratio', 'm', opened=0.04, closed=0)], 0.05, 0, '1'),
        ([Column('gripper', 'ratio', 'percent', opened=100, closed=0)], 150, 0, '1'),
    ],
)
def test_values_become_si(columns, value, expected, unit):
    chunk = converted(columns, [value] * len(columns))
    assert chunk.values[0] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert set(chunk.spec.units) == {unit} and chunk.stamp_ns == 5


@given(st.lists(st.floats(-1.2, 1.2), min_size=3, max_size=3))
def test_euler_displacements_turn_as_far_as_the_angles_say(angles):
    rate = converted(turns('euler_xyz'), angles).values[0].astype(float)
    reached = Rotation.from_rotvec(rate * STEP_S)
    wanted = Rotation.from_euler('xyz', np.array(angles, np.float32))
    assert (reached * wanted.inv()).magnitude() < 1e-5


def test_what_is_not_finite_stays_so_and_harms_no_other_row():
    columns = [*turns('euler_xyz'), Column('gripper', 'ratio', '1', opened=1, closed=0)]
    values = converted(columns, [np.nan, 0, 0, np.nan], [0.1, 0, 0, 1]).values
    assert np.isnan(values[0, 0]) and np.isnan(values[0, 3])
    assert values[1] == pytest.approx([0.5, 0, 0, 0])


@pytest.mark.parametrize(
    ('columns', 'word'),
    [
        ([Column('action.0', '', '1')], '--columns'),
        ([Column('end_effector.x', 'position', 'm', 'base')], 'pose of the end effector'),
        (moves('m', frame='camera'), 'policy_frame'),
        (turns('quaternion_xyzw'), 'quaternion'),
        (turns('euler_xyz', 'velocity', 'rad/s'), 'Euler'),
        (turns('euler_xyz')[:2], 'angular.z'),
        ([*turns()[:2], turns('euler_xyz')[2]], 'differ'),
        ([Column('joint_position.a', 'offset', 'rad')], 'offset'),
        ([Column('linear.x', 'displacement', 'rad', 'base')], 'length'),
        ([Column('joint_position.a', 'position', '1')], 'unit of length or angle'),
        ([Column('gripper_2', 'ratio', '1', opened=0, closed=1)], 'not known'),
    ],
)
def test_what_cannot_be_commanded_is_refused(columns, word):
    with pytest.raises(UserError, match=word) as caught:
        SiActions(spec(*columns))
    assert '\n' not in str(caught.value)
