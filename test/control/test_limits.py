from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from sqap_vla_ros.control.audit import CommandAudit
from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.fuzz_limits import effective_period_s
from sqap_vla_ros.control.limits import CommandLimiter, MAX_PERIOD_S, MotionLimits
from sqap_vla_ros.control.velocity_limiter import Limit

PERIOD_S = 0.02
FREE = MotionLimits(workspace_low_m=None, workspace_high_m=None)
BOX = MotionLimits(
    workspace_low_m=(-0.2,) * 3, workspace_high_m=(0.2,) * 3, workspace_margin_m=0.003
)


def twist(x=0.0, y=0.0, z=0.0, gripper=None):
    return Command([x, y, z], [0, 0, 0], gripper)


def run(limiter, wanted, ticks, position=(0.0, 0.0, 0.0), period_s=PERIOD_S):
    """Commands and the position they lead to."""
    commands, position = [], np.array(position)
    for _ in range(ticks):
        commands.append(limiter.limit(wanted, period_s, position))
        position = position + commands[-1].linear_m_s * period_s
    return commands, position


@pytest.mark.parametrize(
    'linear, final',
    [((0.2, 0, 0), 0.2), ((0.0, 0.12, 0.16), 0.2), ((5.0, -3, 1), 0.25), ((0, 1e300, 0), 0.25)],
)
def test_a_step_reaches_its_velocity_within_the_limits_and_without_overshoot(linear, final):
    limiter, audit = CommandLimiter(FREE), CommandAudit(FREE)
    commands, _ = run(limiter, twist(*linear), 60)
    for command in commands:
        assert not audit.check(command, PERIOD_S, stopping=False)
    speeds = [np.linalg.norm(command.linear_m_s) for command in commands]
    assert speeds[-1] == pytest.approx(final)
    assert (np.diff(speeds) >= -1e-12).all()
    # As fast as the limits allow: speed / acceleration + acceleration / jerk, and the command's
    # own granularity.
    ideal_s = final / FREE.linear_acceleration_m_s2 + (
        FREE.linear_acceleration_m_s2 / FREE.linear_jerk_m_s3
    )
    reached_s = next(i for i, speed in enumerate(speeds) if speed > 0.999 * final) * PERIOD_S
    assert reached_s < ideal_s + 4 * PERIOD_S


def test_the_direction_is_kept():
    limiter = CommandLimiter(FREE)
    for command in run(limiter, twist(3, -4, 12), 30)[0]:
        direction = command.linear_m_s / np.linalg.norm(command.linear_m_s)
        np.testing.assert_allclose(direction, [3 / 13, -4 / 13, 12 / 13], atol=1e-9)


def test_what_is_within_the_limits_passes_unchanged():
    limiter = CommandLimiter(FREE)
    run(limiter, twist(0.1), 30)
    limiter.counts.clear()
    assert limiter.limit(twist(0.1), PERIOD_S).linear_m_s[0] == pytest.approx(0.1, abs=1e-12)
    assert not limiter.counts


@pytest.mark.parametrize(
    'limits', [FREE, replace(FREE, linear_jerk_m_s3=None, stop_jerk_m_s3=None)]
)
def test_a_stop_goes_straight_to_standstill_in_the_time_its_limits_allow(limits):
    limiter, audit = CommandLimiter(limits), CommandAudit(limits)
    limiter.reset((0.15, 0.2, 0.0))
    audit.check(Command([0.15, 0.2, 0], [0, 0, 0]), PERIOD_S)
    for tick in range(100):
        command = limiter.limit(None, PERIOD_S)
        assert not audit.check(command, PERIOD_S)
        assert limiter.stopping
        if limiter.still:
            break
        np.testing.assert_allclose(np.cross(command.linear_m_s, [0.15, 0.2, 0]), 0, atol=1e-12)
        assert command.linear_m_s[0] > 0
    jerk_s = (
        limits.stop_deceleration_m_s2 / limits.stop_jerk_m_s3 if limits.stop_jerk_m_s3 else 0.0
    )
    assert (tick + 1) * PERIOD_S < 0.25 / limits.stop_deceleration_m_s2 + jerk_s + 5 * PERIOD_S


def test_a_stop_begins_with_the_very_next_command():
    limiter = CommandLimiter(FREE)
    before = run(limiter, twist(0.2), 50)[0][-1]
    assert limiter.limit(None, PERIOD_S).linear_m_s[0] < before.linear_m_s[0] - 1e-3


def test_motion_towards_the_edge_ends_inside_it_without_a_stop():
    limiter = CommandLimiter(BOX)
    _, position = run(limiter, twist(0.3, 0.3, 0.3), 400)
    assert (position <= 0.2 - 0.003 + 1e-9).all()
    assert (position > 0.2 - 0.006).all()
    assert limiter.counts[Limit.WORKSPACE] > 0
    assert limiter.still or np.linalg.norm(limiter.linear_m_s) < 1e-3


def test_motion_slides_along_the_edge():
    limiter = CommandLimiter(BOX)
    commands, _position = run(limiter, twist(0.2, 0.05, 0.0), 130, position=(0.1, -0.15, 0.0))
    assert commands[-1].linear_m_s[1] == pytest.approx(0.05, abs=1e-3)
    assert abs(commands[-1].linear_m_s[0]) < 1e-3


@pytest.mark.parametrize('position', [(0.25, 0.0, 0.0), (0.0, -0.3, 0.0), (0.5, 0.5, 0.5)])
def test_outside_of_the_workspace_only_the_way_back_is_open(position):
    limiter = CommandLimiter(BOX)
    outwards = np.sign(position) * 0.1
    for command in run(limiter, Command(outwards, np.zeros(3)), 20, position)[0]:
        assert command.still
    _, reached = run(limiter, Command(-outwards, np.zeros(3)), 100, position)
    assert (np.abs(reached) < np.abs(position))[np.nonzero(position)[0]].all()
    assert (np.abs(reached) < 0.35).all()


def test_a_position_that_jumps_to_the_edge_stops_at_once_along_the_stop_profile():
    limiter, audit = CommandLimiter(BOX), CommandAudit(BOX)
    for command in run(limiter, twist(0.25), 30, position=(-0.2, 0, 0))[0]:
        audit.check(command, PERIOD_S, limiter.stopping)
    while not limiter.still:
        command = limiter.limit(twist(0.25), PERIOD_S, (0.2, 0, 0))
        assert limiter.stopping or np.linalg.norm(command.linear_m_s) < 1e-6
        assert not audit.check(command, PERIOD_S)
        assert audit.commands < 50
    assert not audit.violations


@pytest.mark.parametrize('position', [None, (np.nan, 0, 0), (0, np.inf, 0), (0, 0)])
def test_without_a_position_there_is_no_motion_in_a_workspace(position):
    limiter = CommandLimiter(BOX)
    assert limiter.limit(twist(0.1), PERIOD_S, position).still
    assert limiter.limited == {Limit.POSITION_UNKNOWN}


@pytest.mark.parametrize('wanted', [twist(np.nan), twist(0, np.inf), twist(0.1, gripper=np.nan)])
def test_a_non_finite_command_stops_and_is_counted(wanted):
    limiter = CommandLimiter(FREE)
    moving = run(limiter, twist(0.2), 50)[0][-1]
    command = limiter.limit(wanted, PERIOD_S)
    assert command.finite
    assert 0 < command.linear_m_s[0] < moving.linear_m_s[0]
    assert limiter.counts[Limit.NON_FINITE] == 1


@pytest.mark.parametrize('period_s', [0.0, -0.1, np.nan, np.inf, 1e-5, 1e-300])
def test_what_is_no_period_repeats_the_last_command(period_s):
    limiter = CommandLimiter(FREE)
    before = run(limiter, twist(0.2), 3)[0][-1]
    np.testing.assert_array_equal(
        limiter.limit(twist(0.2), period_s).linear_m_s, before.linear_m_s
    )


def test_a_long_pause_does_not_allow_a_long_step():
    limiter, other = CommandLimiter(FREE), CommandLimiter(FREE)
    np.testing.assert_array_equal(
        limiter.limit(twist(1), 60.0).linear_m_s, other.limit(twist(1), MAX_PERIOD_S).linear_m_s
    )


def test_a_reset_goes_on_from_the_measured_velocity_scaled_into_the_limits():
    limiter = CommandLimiter(FREE)
    limiter.reset((0.0, -0.1, 0.0))
    assert limiter.limit(twist(0, -0.1), PERIOD_S).linear_m_s[1] == pytest.approx(-0.1)
    limiter.reset((0.0, -10.0, 0.0))
    np.testing.assert_allclose(limiter.linear_m_s, [0, -0.25, 0])
    with pytest.raises(ValueError, match='linear_m_s'):
        limiter.reset((np.nan, 0, 0))


def test_the_gripper_is_debounced():
    limiter = CommandLimiter(replace(FREE, gripper_debounce_s=0.1))
    run(limiter, twist(gripper=0.0), 5)
    assert limiter.limit(twist(gripper=0.0), PERIOD_S).gripper == 0
    for _ in range(20):  # flicker
        assert limiter.limit(twist(gripper=1.0), PERIOD_S).gripper == 0
        assert limiter.limit(twist(gripper=0.0), PERIOD_S).gripper == 0
    values = [command.gripper for command in run(limiter, twist(gripper=7.0), 6)[0]]
    assert values == [0, 0, 0, 0, 1, 1]
    assert limiter.limit(None, PERIOD_S).gripper == 1
    assert limiter.limit(twist(gripper=0.97), PERIOD_S).gripper == 1


def test_no_gripper_value_is_made_up():
    limiter = CommandLimiter(FREE)
    assert all(command.gripper is None for command in run(limiter, twist(0.1), 10)[0])


def test_rotation_is_limited_on_its_own():
    limiter, audit = CommandLimiter(FREE), CommandAudit(FREE)
    for command in run(limiter, Command([0.1, 0, 0], [0, 9, 9]), 50)[0]:
        assert not audit.check(command, PERIOD_S, stopping=False)
    np.testing.assert_allclose(command.angular_rad_s, np.array([0, 0.8, 0.8]) / np.sqrt(2))
    np.testing.assert_allclose(command.linear_m_s, [0.1, 0, 0])


@pytest.mark.parametrize(
    'wrong, named',
    [
        ({'linear_speed_m_s': np.nan}, 'linear_speed_m_s'),
        ({'linear_speed_m_s': 0}, 'linear_speed_m_s'),
        ({'angular_acceleration_rad_s2': -1}, 'angular_acceleration_rad_s2'),
        ({'linear_jerk_m_s3': np.inf}, 'linear_jerk_m_s3'),
        ({'stop_deceleration_m_s2': 0.5}, 'stop_deceleration_m_s2'),
        ({'linear_jerk_m_s3': None}, 'stop_jerk_m_s3'),
        ({'gripper_debounce_s': np.nan}, 'gripper_debounce_s'),
        ({'workspace_margin_m': -1}, 'workspace_margin_m'),
        ({'workspace_low_m': None}, 'workspace_high_m'),
        ({'workspace_low_m': (0, 0, np.nan)}, 'workspace_low_m'),
        ({'workspace_low_m': (0, 0)}, 'workspace_low_m'),
        ({'workspace_low_m': (1, 0, 0)}, 'workspace_low_m'),
        ({'workspace_margin_m': 0.2}, 'workspace_low_m'),
    ],
)
def test_a_wrong_limit_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        MotionLimits(**wrong)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1, 1)
commands = st.none() | st.builds(
    Command, st.tuples(*[numbers] * 3), st.tuples(*[numbers] * 3), st.none() | numbers
)
ticks = st.lists(
    st.tuples(
        commands,
        st.floats(0.001, 0.1) | numbers,
        st.none() | st.tuples(*[st.floats(-0.3, 0.3) | numbers] * 3),
    ),
    max_size=30,
)


@given(ticks, st.booleans(), st.tuples(*[st.floats(-1, 1)] * 3))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_sequence_breaks_a_limit(sequence, jerk_limited, velocity):
    limits = (
        BOX
        if jerk_limited
        else replace(
            BOX,
            linear_jerk_m_s3=None,
            stop_jerk_m_s3=None,
            angular_jerk_rad_s3=None,
            angular_stop_jerk_rad_s3=None,
        )
    )
    limiter, audit = CommandLimiter(limits), CommandAudit(limits)
    limiter.reset(velocity)
    for wanted, period_s, position in sequence:
        command = limiter.limit(wanted, period_s, position)
        assert not audit.check(command, effective_period_s(period_s), limiter.stopping)


@given(
    st.lists(st.tuples(*[st.floats(-2, 2)] * 3), min_size=1, max_size=12),
    st.tuples(*[st.floats(-0.19, 0.19)] * 3),
    st.sampled_from([0.002, 0.01, 0.02, 0.05]),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_no_sequence_leads_out_of_the_workspace(targets, position, period_s):
    limiter, position = CommandLimiter(BOX), np.array(position)
    for target in targets:
        for _ in range(6):
            command = limiter.limit(twist(*target), period_s, position)
            position = position + command.linear_m_s * period_s
            assert (np.abs(position) <= 0.2 + 1e-6).all()
