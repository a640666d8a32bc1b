"""How far measurements are believed: `PathTracker` alone."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from sqap_vla_ros.control.commanded_path import CommandedPath, HISTORY_S
from sqap_vla_ros.control.plausibility import JUMP_S, PathTracker, TrackingLimits

MS = 1_000_000
properties = settings(max_examples=60, deadline=None, derandomize=True)
VELOCITIES = st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=40)


def followed(velocities, delay_s=0.0, lag_s=0.0, gain=1.0, limits=TrackingLimits(), seen=None):
    """
    Command velocities for 40 ms each to an arm that follows; measure it every 10 ms.

    `seen` says what is measured for a true place and a step. Returns tracker, place and now.
    """
    tracker = PathTracker(1, limits)
    place = speed = 0.0
    pipe = [0.0] * (round(delay_s * 1000) + 1)
    now_ns = 0
    tracker.measure([0.0], now_ns)
    for step, velocity in enumerate(velocities):
        tracker.commands.command([velocity], now_ns)
        for tick in range(40):
            pipe.append(gain * velocity)
            wanted = pipe.pop(0)
            speed += (wanted - speed) * (1.0 if not lag_s else 0.001 / (lag_s + 0.001))
            place += speed * 0.001
            now_ns += MS
            if tick % 10 == 9:
                tracker.measure([place if seen is None else seen(place, step)], now_ns)
    return tracker, place, now_ns


@properties
@given(VELOCITIES, st.sampled_from(((0, 0), (0.09, 0), (0, 0.09), (0.04, 0.05))), st.booleans())
def test_a_lag_within_its_limit_is_no_error(velocities, lags, absolute):
    limits = TrackingLimits(0.02, 0.1, absolute)
    tracker, _, _ = followed(velocities, *lags, limits=limits)
    assert tracker.error < 0.005
    assert tracker.problem('arm') is None


@properties
@given(VELOCITIES, st.sampled_from(((0, 0), (0.09, 0), (0, 0.09), (0.04, 0.05))))
def test_the_span_holds_where_the_arm_comes_to_rest(velocities, lags):
    tracker, _, now_ns = followed(velocities, *lags)
    low, high = tracker.span(now_ns)
    _, rest, _ = followed([*velocities, *[0.0] * 20], *lags)
    assert low[0] - 1e-3 <= rest <= high[0] + 1e-3


@properties
@given(VELOCITIES, st.integers(0, 30), st.sampled_from(((0, 0), (0.04, 0.05))))
def test_the_span_holds_where_an_arm_is_that_is_no_longer_measured(velocities, after, lags):
    last = []

    def frozen(place, step):
        if step < after or not last:
            last[:] = [place]
        return last[0]

    tracker, _, now_ns = followed(velocities, *lags, seen=frozen)
    _, rest, _ = followed([*velocities, *[0.0] * 20], *lags)
    low, high = tracker.span(now_ns)
    assert tracker.problem('arm') or low[0] - 1e-3 <= rest <= high[0] + 1e-3


def test_an_arm_at_rest_where_it_was_told_is_known_to_be_there():
    tracker, place, now_ns = followed([0.3] * 20 + [0.3 * 0.8**step for step in range(40)])
    low, high = tracker.span(now_ns)
    assert high[0] - low[0] < 0.005
    assert low[0] <= place <= high[0]


def test_an_error_is_one_of_the_last_part_of_the_path_with_velocities_and_of_all_with_positions():
    slow = [0.2] * 250
    drifting, _, _ = followed(slow, gain=0.95)
    assert drifting.problem('arm') is None
    held, _, _ = followed(slow, gain=0.95, limits=TrackingLimits(absolute=True))
    assert 'arm does not follow the commands' in held.problem('arm')


@pytest.mark.parametrize('absolute', [False, True])
def test_an_arm_that_makes_less_than_half_of_its_path_is_in_error(absolute):
    limits = TrackingLimits(absolute=absolute)
    tracker, _, _ = followed([0.2] * 40, gain=0.4, limits=limits)
    assert tracker.astray


def test_a_jump_is_told_from_an_arm_that_stands():
    stood, _, _ = followed([0.2] * 30, seen=lambda place, step: min(place, 0.1))
    assert 'does not follow' in stood.problem('arm')
    jumped, _, now_ns = followed([0.2] * 30, seen=lambda place, step: place + 0.2 * (step > 25))
    assert 'arm jumped by 0.1' in jumped.problem('arm')
    jumped.restart()
    assert jumped.problem('arm'), 'a restart does not make a jump undone'
    place = jumped.place(now_ns)
    for step in range(1, 15):
        jumped.measure(place, now_ns + round(step * JUMP_S * 1e8))
    assert jumped.jump('arm') is None


def test_a_restart_takes_the_newest_measurement_for_the_truth():
    tracker, _, now_ns = followed([0.2] * 30, seen=lambda place, step: 0.0)
    assert tracker.astray
    tracker.restart()
    assert tracker.error == 0 and tracker.problem('arm') is None
    assert tracker.reference(now_ns) == pytest.approx([0.0])


@given(st.floats(-5, 5))
@properties
def test_no_measurement_but_a_restart_changes_the_reference(wrong):
    tracker, _, now_ns = followed([0.2] * 10, limits=TrackingLimits(absolute=True))
    before = tracker.reference(now_ns)
    tracker.measure([wrong], now_ns + MS)
    assert tracker.reference(now_ns) == before
    tracker.forget(7 * MS, 0.04)
    tracker.measure([wrong], 8 * MS)
    assert tracker.reference(7 * MS) == pytest.approx(before)


def test_after_a_jump_of_the_clock_older_measurements_count_as_none():
    tracker, place, now_ns = followed([0.2] * 10)
    tracker.forget(now_ns + 10**10, 0.02)
    assert tracker.span(now_ns + 10**10) is None
    assert not tracker.measure([place], now_ns + MS)
    assert tracker.measure([place], now_ns + 10**10 + MS)


def test_measurements_that_are_not_newer_are_ignored():
    tracker = PathTracker(1, TrackingLimits())
    assert tracker.measure([0.0], 5)
    assert not tracker.measure([9.0], 5) and not tracker.measure([9.0], 4)
    assert tracker.place(5) == [0.0]


def test_the_velocity_is_measured_with_fast_and_with_slow_measurements():
    fast, _, _ = followed([0.2] * 10)
    assert fast.velocity() == pytest.approx([0.2], rel=0.05)
    slow = PathTracker(1, TrackingLimits())
    assert slow.velocity() is None
    for second in range(3):
        slow.measure([0.1 * second], second * 10**9)
    assert slow.velocity() == pytest.approx([0.1])


def test_a_command_that_did_not_hold_leads_no_further():
    tracker, place, now_ns = followed([0.2] * 10)
    for tick in range(1, 50):  # it went on for 0.1 s, and stands
        tracker.measure([place + 0.2 * min(tick * 0.01, 0.06)], now_ns + tick * 10 * MS)
    now_ns += 500 * MS
    tracker.expire(0.1, now_ns)
    assert tracker.error == 0
    assert tracker.reference(now_ns) == pytest.approx([place + 0.2 * 0.06], abs=1e-3)


def test_an_arm_that_stands_for_hours_costs_neither_memory_nor_time():
    tracker, place, now_ns = followed([0.2] * 10)
    for second in range(20_000):
        tracker.commands.command([0.0], now_ns + second * 10**9)
        tracker.measure([place], now_ns + second * 10**9 + 1)
    kept = len(tracker._past) + len(tracker._recent) + len(tracker.commands._knots)
    assert kept < 60


def test_commands_are_remembered_for_a_while_and_lead_on():
    path = CommandedPath(2, 0.1)
    assert path.at(0) == ([0.0, 0.0], 0.0)
    for second in range(100):
        path.command([0.3, -0.4], second * 10**9)
    place, length = path.at(100 * 10**9)
    assert place == pytest.approx([30.0, -40.0]) and length == pytest.approx(50.0)
    assert path.at(round((100 - HISTORY_S) * 1e9))[0] == pytest.approx([28.5, -38.0])
