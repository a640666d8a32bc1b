"""Commands against measurements: arms that do not follow, sensors that lie, late and lost time."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from sqap_vla_ros.control.fuzz_arm import SensorModel
from sqap_vla_ros.control.state_machine import Event, State

from support.tracked_arm import JOINTS, TrackedArm, velocity_and_position, WALL

few = settings(max_examples=10, deadline=None, derandomize=True)
SPACES = ('twist', 'velocity', 'position')
spaces = pytest.mark.parametrize('space', SPACES)
LAGS = st.sampled_from(((0.0, 0.0), (0.0, 0.09), (0.09, 0.0), (0.04, 0.05)))
SENSORS = st.builds(SensorModel, st.sampled_from((0.01, 0.1, 0.2, 0.5)), st.floats(0.0, 0.8))


def inside(motion):
    assert max(map(abs, motion.arm.place)) <= WALL


# Where the arm can be


@few
@given(st.sampled_from(SPACES), SENSORS, LAGS, st.sampled_from((10, 30, 100)))
def test_slow_and_old_measurements_neither_let_an_arm_out_nor_hold_it(space, sensor, lags, rate):
    motion = TrackedArm(space, rate, 0.5, sensor, delay_s=lags[0], lag_s=lags[1]).start()
    motion.run(4.0, lambda: inside(motion))
    assert motion.state is State.RUNNING, motion.reason
    motion.wanted = [-0.5, 0.3, 0.0]
    motion.run(4.0, lambda: inside(motion))
    assert motion.state is State.RUNNING, motion.reason


@spaces
@pytest.mark.parametrize('lags', [(0.0, 0.0), (0.04, 0.05)])
@pytest.mark.parametrize(
    'sensor', [SensorModel(0.01, 0.0), SensorModel(0.1, 0.02), SensorModel(0.2, 0.15)]
)
def test_a_wall_is_reached_to_a_few_millimetres(space, sensor, lags):
    motion = TrackedArm(space, sensor=sensor, delay_s=lags[0], lag_s=lags[1]).start()
    motion.run(4.0, lambda: inside(motion))
    assert motion.arm.place[0] > WALL - 0.01


@few
@given(st.floats(0.9, 1.1), SENSORS)
def test_an_arm_that_is_faster_or_slower_than_told_stays_inside_and_is_not_held(gain, sensor):
    motion = TrackedArm('twist', 50, 0.25, sensor, gain=gain, lag_s=0.05).start()
    for direction in (1, -1, 1):
        motion.wanted = [0.3 * direction, 0.0, 0.0]
        motion.run(3.0, lambda: inside(motion))
    assert motion.state is State.RUNNING, motion.reason


def test_a_simulated_robot_at_a_quarter_of_real_time_is_not_held():
    motion = TrackedArm(sensor=SensorModel(0.1, 0.02), pace=0.25, lag_s=0.05).start()
    motion.run(12.0, lambda: inside(motion))
    assert motion.state is State.RUNNING, motion.reason
    assert motion.arm.place[0] > 0.2


# What does not follow


@spaces
def test_one_axis_that_repeats_itself_while_another_moves_stays_inside(space):
    motion, slow = TrackedArm(space, speed=0.25, lag_s=0.05).start(), 0.06
    motion.wanted = [0.24, 0.0, slow]
    motion.run(0.5)
    stuck = motion.arm.place[2]

    def watch():
        inside(motion)
        if abs(motion.arm.place[0]) > 0.2:  # to and fro
            motion.wanted[0] = -0.24 if motion.arm.place[0] > 0 else 0.24
        motion.wrong = [*motion.arm.place[:2], stuck]

    motion.run(WALL / slow + 3.0, watch)


@few
@given(st.sampled_from(SPACES), st.floats(0.2, 2.0), LAGS)
def test_a_measurement_that_repeats_itself_holds_before_the_arm_is_outside(space, after_s, lags):
    motion = TrackedArm(space, speed=0.25, delay_s=lags[0], lag_s=lags[1]).start()
    motion.wanted = [0.25, -0.1, 0.0]
    motion.run(after_s)
    motion.wrong = list(motion.arm.place)
    motion.run(6.0, lambda: inside(motion))
    motion.wanted = [-0.25, 0.25, 0.0]
    motion.run(4.0, lambda: inside(motion))
    assert motion.held()


@spaces
def test_an_arm_that_stops_following_is_held_and_named(space):
    motion = TrackedArm(space).start()
    motion.run(0.6)
    motion.dead = True
    motion.run(1.0)
    assert motion.held()
    name = 'position of the end effector' if space == 'twist' else JOINTS[0]
    assert f'{name} does not follow the commands' in motion.reason
    motion.run(1.0)
    assert motion.commands[-1].still


def test_an_arm_that_comes_back_does_not_move_without_consent():
    motion = TrackedArm('position').start()
    motion.run(0.6)
    motion.dead = True
    motion.run(2.0)
    place = list(motion.arm.place)
    assert not motion.commands[-1].positions, 'positions lead to where the arm is not'
    assert motion.controller.resume().accepted
    motion.wanted = [0.0] * 3
    motion.run(0.1)
    motion.dead = False
    motion.run(0.5)
    assert motion.commands[-1].positions[JOINTS[0]] == pytest.approx(place[0], abs=1e-6)
    assert motion.arm.place == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize('space', ['velocity', 'position'])
@pytest.mark.parametrize('state', [Event.ESTOP, Event.HOLD])
@pytest.mark.parametrize('wrong', [0.05, 0.9, 20.0])
def test_a_wrong_measurement_of_a_joint_moves_no_commanded_position_of_a_stop(space, state, wrong):
    motion = TrackedArm(space).start()
    motion.run(0.6)
    motion.controller.event(state)
    motion.run(0.5)
    before = dict(motion.commands[-1].positions)
    motion.wrong = [wrong] * 3
    for command in motion.run(0.5):
        assert command.still
        assert not command.positions or command.positions == pytest.approx(before, abs=1e-9)


@spaces
def test_a_jump_of_the_measurement_holds_and_can_be_started_from_only_later(space):
    motion = TrackedArm(space).start()
    motion.run(0.4)
    motion.wrong = [0.25, 0.25, 0.25]
    motion.run(0.1)
    assert motion.held() and 'jumped by' in motion.reason
    motion.run(0.3)
    refused = motion.controller.resume()
    assert not refused.accepted and 'jumped by' in refused.reason
    motion.run(1.5)
    assert motion.controller.resume().accepted


@spaces
def test_every_second_measurement_from_somebody_else_holds_whichever_is_seen(space):
    motion = TrackedArm(space, sensor=SensorModel(0.02, 0.0)).start()
    motion.arm.put([0.2, 0.0, 0.0])
    motion.controller.event(Event.DEACTIVATED)
    motion.run(1.5)
    motion.wanted = [-0.1, 0.0, 0.0]
    assert motion.controller.start().accepted
    motion.run(0.2)
    assert motion.state is State.RUNNING
    motion.measure([0.0] * 3)  # and the true one comes before the next tick
    motion.run(0.1)
    assert motion.held()


@spaces
def test_contact_holds_after_the_limit_of_the_error_and_not_before(space):
    motion = TrackedArm(space, speed=0.05).start()
    motion.run(2.0)
    motion.dead = True
    motion.run(0.8)
    assert motion.state is State.RUNNING, 'pressing a button is no error'
    motion.run(4.0)
    assert motion.held()


@spaces
def test_consent_is_refused_while_a_robot_that_is_lost_is_still_being_stopped(space):
    motion = TrackedArm(space, speed=1.0).start()
    motion.wanted = [1.0, 0.0, 0.0]
    motion.arm.put([-0.28, 0.0, 0.0])
    motion.controller.event(Event.DEACTIVATED)
    motion.run(1.5)
    motion.controller.start()
    motion.run(0.5)
    motion.dead = True
    while motion.state is State.RUNNING:
        motion.step(motion.period_s)
    assert not motion.commands[-1].still
    refused = motion.controller.resume()
    assert not refused.accepted and 'still being stopped' in refused.reason


# Lost time


@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize('gap_s', [0.15, 0.3, 1.0])
@pytest.mark.parametrize('stops', [True, False])
def test_after_a_gap_motion_begins_as_measured_and_ramps_in(space, gap_s, stops):
    if space == 'position' and not stops:
        pytest.skip('an arm that is commanded by positions stops at the last one')
    hold_s = 0.1 if stops else float('inf')
    motion = TrackedArm(space, speed=0.1, hold_s=hold_s).start()
    motion.wanted = [0.1, 0.0, 0.0]
    motion.run(1.0)
    motion.step(gap_s)
    while motion.commands[-1] is None:
        motion.step(motion.period_s)
    assert motion.state is State.RUNNING
    velocity, _ = velocity_and_position(motion.commands[-1])
    measured = 0.0 if stops and gap_s > 0.25 else 0.1
    if not (stops and gap_s < 0.25):  # the mean of moving and standing
        assert velocity[0] == pytest.approx(measured, abs=4.0 * motion.period_s + 0.01)
    motion.run(1.0)
    assert velocity_and_position(motion.commands[-1])[0][0] == pytest.approx(0.1)


@spaces
def test_an_emergency_stop_in_a_gap_waits_for_no_measurement(space):
    motion = TrackedArm(space, sensor=SensorModel(0.01, 0.0)).start()
    motion.run(1.0)
    motion.sensor.next_s = 1e9  # measures no more
    motion.controller.estop()
    last, _ = velocity_and_position(motion.commands[-1])
    motion.step(0.3)
    velocity, _ = velocity_and_position(motion.commands[-1])
    assert np.linalg.norm(velocity) <= np.linalg.norm(last)
    motion.run(0.5)
    assert motion.commands[-1].still


def test_the_commanded_position_makes_no_step_over_a_gap():
    motion = TrackedArm('position', speed=1.0, lag_s=0.05).start()
    motion.arm.put([-0.29, 0.0, 0.0])
    motion.controller.event(Event.DEACTIVATED)
    motion.run(1.5)
    motion.controller.start()
    motion.wanted = [0.3, 0.0, 0.0]
    motion.run(0.8)
    before = motion.commands[-1]
    motion.step(0.5)
    while motion.commands[-1] is None:
        motion.step(motion.period_s)
    moved = motion.commands[-1].positions[JOINTS[0]] - before.positions[JOINTS[0]]
    assert abs(moved) <= before.velocities[JOINTS[0]] * 0.1 + 1e-6


@pytest.mark.parametrize('jump_s', [-5.0, 1.0])
def test_commanded_positions_go_on_over_a_jump_of_the_clock_and_after_the_resume(jump_s):
    motion = TrackedArm('position').start()
    motion.run(0.6)
    before = motion.commands[-1]
    motion.sensor.clock_s += jump_s
    for command in motion.run(1.5):
        assert command.positions, 'a stop needs its positions'
        led = before.positions[JOINTS[0]] + before.velocities[JOINTS[0]] * motion.period_s
        assert command.positions[JOINTS[0]] == pytest.approx(led, abs=1e-9)
        before = command
    assert motion.state is State.HOLDING
    assert motion.controller.resume().accepted
    motion.wanted = [-0.1, 0.0, 0.0]
    motion.run(1.0)
    assert motion.state is State.RUNNING and motion.commands[-1].positions


# Who moves the arm


def test_a_hold_before_any_consent_commands_no_position():
    motion = TrackedArm('position')
    motion.run(0.5)
    motion.controller.hold()
    assert all(command.still and not command.positions for command in motion.run(0.5))
    assert motion.controller.resume().accepted
    motion.run(0.5)
    assert motion.commands[-1].positions


@spaces
def test_an_arm_that_comes_to_rest_after_jogging_can_be_started(space):
    motion = TrackedArm(space)
    for _ in range(50):
        motion.arm.put([motion.arm.place[0] + 0.1 * motion.period_s, 0.0, 0.0])
        motion.step(motion.period_s)
    assert motion.controller.start().accepted
    motion.wanted = [0.0, 0.1, 0.0]
    motion.run(2.0)
    assert motion.state is State.RUNNING, motion.reason


@pytest.mark.parametrize('space', ['twist', 'velocity'])
def test_what_was_missed_before_a_consent_does_not_count_after_it(space):
    motion = TrackedArm(space, speed=0.1, lag_s=0.02).start()
    limit = 0.05 if space == 'twist' else 0.1
    for _ in range(3):
        motion.dead = True
        motion.run(0.6 * limit / 0.1)
        assert motion.state is State.RUNNING, motion.reason
        motion.controller.hold('test')
        motion.dead = False
        motion.run(0.5)
        assert motion.controller.start('test').accepted
        motion.run(0.5)
    assert motion.state is State.RUNNING, motion.reason


def test_in_slow_simulated_time_a_jump_refuses_consent_for_no_longer():
    motion = TrackedArm(sensor=SensorModel(0.02, 0.0), pace=0.1)
    motion.run(1.0)
    motion.arm.place[0] += 0.2  # the scene is reset
    motion.run(0.6)
    refused = motion.controller.start()
    assert not refused.accepted and 'jumped' in refused.reason
    motion.run(1.1)
    assert motion.controller.start().accepted
    motion.run(1.0)
    assert motion.state is State.RUNNING, motion.reason
