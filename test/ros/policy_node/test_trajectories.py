"""Trajectories over DDS, and what joint_trajectory_controller makes of a stream of them."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

import numpy as np
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Output
from sqap_vla_ros.ros.common.messages import header, stamp_to_ns
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs
from sqap_vla_ros.ros.policy_node.outputs.registry import ARM_OUTPUTS

from support.dds import wait_until
from support.outputs import (
    assert_stamped_at_publishing,
    joint_command,
    JOINTS,
    ORDER,
    profile,
    receive,
)

TESTS = Path(__file__).resolve().parents[2]


def test_trajectories_end_at_standstill_within_the_horizon(client):
    outputs = AllOutputs(
        client, profile(Output('joint_trajectory', 'jtc', joints=ORDER, horizon_s=0.1))
    )
    message, _ = receive(client, JointTrajectory, 'jtc', outputs, joint_command())
    assert_stamped_at_publishing(client, message, 'base_link')
    assert tuple(message.joint_names) == ORDER
    times = [stamp_to_ns(point.time_from_start) / 1e9 for point in message.points]
    assert times == [0.05, 0.1]
    moving, last = message.points
    assert list(moving.velocities) == [-0.25, 0.5] and list(last.velocities) == [0.0, 0.0]
    way = np.array(last.positions) - np.array(moving.positions)
    assert way == pytest.approx([-0.25 * 0.025, 0.5 * 0.025])


class StandInTrajectoryController:
    """Follows the last trajectory as joint_trajectory_controller does: cubic, by its stamp."""

    def __init__(self, client, topic):
        self.accepted, self.problems = [], []
        self._clock = client.get_clock()
        client.create_subscription(JointTrajectory, topic, self._receive, 1)

    def _receive(self, message):
        times = [stamp_to_ns(point.time_from_start) for point in message.points]
        end_ns = stamp_to_ns(message.header.stamp) + times[-1]
        if sorted(set(times)) != times or sorted(message.joint_names) != sorted(JOINTS):
            self.problems.append('times do not grow, or joints are missing')
        elif any(message.points[-1].velocities):
            self.problems.append('velocity at the end is not zero')
        elif end_ns >= self._clock.now().nanoseconds:  # late ones are dropped
            self.accepted.append((end_ns, message))

    def position(self, joint):
        """Where the arm is now on the last trajectory."""
        _, message = self.accepted[-1]
        index = list(message.joint_names).index(joint)
        now_s = (self._clock.now().nanoseconds - stamp_to_ns(message.header.stamp)) / 1e9
        points = [
            (stamp_to_ns(p.time_from_start) / 1e9, p.positions[index], p.velocities[index])
            for p in message.points
        ]
        first, last = points[0], points[-1]
        if now_s <= first[0]:
            return first[1] - first[2] * (first[0] - now_s)
        if now_s >= last[0]:
            return last[1]
        u = (now_s - first[0]) / (last[0] - first[0])
        slope = first[2] * (last[0] - first[0])
        return (
            first[1] + slope * (u - 2 * u**2 + u**3) + (last[1] - first[1]) * (3 * u**2 - 2 * u**3)
        )


def test_after_sigkill_the_arm_stands_within_the_horizon(client):
    controller = StandInTrajectoryController(client, 'killed')
    environment = dict(
        os.environ,
        ROS_DOMAIN_ID=str(client.context.get_domain_id()),
        PYTHONPATH=os.pathsep.join([str(TESTS), os.environ.get('PYTHONPATH', '')]),
    )
    process = subprocess.Popen([sys.executable, '-m', 'support.doomed_publisher'], env=environment)
    try:
        assert wait_until(lambda: len(controller.accepted) >= 10, 60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_ns = client.get_clock().now().nanoseconds
    time.sleep(0.5)
    assert not controller.problems
    end_ns, message = controller.accepted[-1]
    assert end_ns <= killed_ns + 200_000_000
    stopped = controller.position('shoulder')
    assert stopped == message.points[-1].positions[0]
    time.sleep(0.2)
    assert controller.position('shoulder') == stopped


BEGIN_S, PERIOD_S, CYCLE_S = 100.0, 0.02, 0.002
SPEED, ACCELERATION = 1.0, 5.0
"""Limits of `profile`."""
MOST = {'joint_trajectory': (1.2, 5.0), 'joint_trajectory_chunk': (1.02, 1.5)}
"""Output to the highest velocity and acceleration over 10 ms, as shares of the limits."""
KINDS = list(MOST)


class Controller:
    """
    The position that joint_trajectory_controller commands, with `interpolate_from_desired_state`.

    It commands what is to be reached a cycle later. To the first point of a new trajectory, if
    that is still to come, it goes from its last command, which it dates to the cycle before: at
    each such message the command advances by two cycles in one.

    Positions alone are interpolated as by `positions_upsampling`: one cubic spline that stands
    still at both ends.
    """

    def __init__(self, position=0.0):
        self._state = BEGIN_S, position, 0.0
        self._path = None
        self.path = []

    def take(self, message):
        begin_s = stamp_to_ns(message.header.stamp) * 1e-9
        times = begin_s + np.array([stamp_to_ns(p.time_from_start) * 1e-9 for p in message.points])
        assert (np.diff(times) > 0).all()
        places = np.array([p.positions[1] for p in message.points])
        if message.points[0].velocities:
            slopes = np.array([p.velocities[1] for p in message.points])
        else:
            slopes = CubicSpline(times, places, bc_type='clamped')(times, 1)
        now_s, place, slope = self._state
        if now_s < times[0]:
            times, places, slopes = (
                np.insert(values, 0, first)
                for values, first in ((times, now_s), (places, place), (slopes, slope))
            )
        self._path = times[-1], CubicHermiteSpline(times, places, slopes)

    def cycle(self, now_s):
        _, place, slope = self._state
        if self._path is not None:
            end_s, path = self._path
            next_s = now_s + CYCLE_S
            place = float(path(min(next_s, end_s)))
            slope = float(path(next_s, 1)) if next_s < end_s else 0.0
        self._state = now_s, place, slope
        self.path.append(place)


def limited(speed_at, seconds, rng):
    """
    Yield commands as the limiter gives them: (time, reference, velocity), at times that jitter.

    Args:
        speed_at: wanted velocity by time.
        seconds: duration.
        rng: generator of the jitter.
    """
    time_s = place = velocity = 0.0
    while time_s < seconds:
        step = ACCELERATION * PERIOD_S
        velocity += np.clip(speed_at(time_s) - velocity, -step, step)
        yield BEGIN_S + time_s, place, velocity
        period_s = PERIOD_S + rng.uniform(-0.002, 0.002)
        time_s, place = time_s + period_s, place + velocity * period_s


def adapter_of(kind, horizon_s=0.2):
    """Make an output without DDS, and the list of what it publishes."""
    output = Output(kind, 'arm', joints=ORDER, horizon_s=horizon_s)
    sent = []
    publisher = SimpleNamespace(publish=sent.append)
    node = SimpleNamespace(create_publisher=lambda *_: publisher)
    return ARM_OUTPUTS[kind](node, output, profile(output)), sent


def stamp(time_s):
    return header(round(time_s * 1e9), '').stamp


def shoulder_at(position, velocity):
    return JointCommand({'shoulder': velocity, 'elbow': 0.0}, {'shoulder': position, 'elbow': 0.2})


def execute(kind, commands, seconds, horizon_s=0.2, deaf_s=(0.0, 0.0)):
    """
    Return the positions that the controller commands the shoulder to, each CYCLE_S.

    Args:
        kind: type of the output.
        commands: times, references and velocities.
        seconds: duration.
        horizon_s: horizon of the output.
        deaf_s: from when to when no message arrives, from BEGIN_S.
    """
    adapter, sent = adapter_of(kind, horizon_s)
    rng = np.random.default_rng(1)
    arrivals = []
    for time_s, position, velocity in commands:
        adapter.publish(shoulder_at(position, velocity), stamp(time_s))
        arrivals.append((time_s + rng.uniform(0.0005, 0.004), sent[-1]))
    controller = Controller()
    for now_s in BEGIN_S + np.arange(0, seconds, CYCLE_S):
        while arrivals and arrivals[0][0] <= now_s:
            _, message = arrivals.pop(0)
            if not deaf_s[0] <= now_s - BEGIN_S < deaf_s[1]:
                controller.take(message)
        controller.cycle(now_s)
    return np.array(controller.path)


def over_10_ms(values):
    """Return the changes per second; within a cycle the old and the new trajectory meet."""
    cycles = 5
    return (values[cycles:] - values[:-cycles]) / (cycles * CYCLE_S)


@pytest.mark.parametrize('horizon_s', [0.1, 0.2])
@pytest.mark.parametrize('kind', KINDS)
def test_a_stream_is_executed_closely_and_ends_where_the_commands_lead(kind, horizon_s):
    def speed(time_s):
        return SPEED if time_s < 1 else (-SPEED if time_s < 1.8 else 0.0)

    commands = list(limited(speed, 2.5, np.random.default_rng(0)))
    path = execute(kind, commands, 3.0, horizon_s)
    velocity = over_10_ms(path)
    most_velocity, most_acceleration = MOST[kind]
    assert np.abs(velocity).max() < most_velocity * SPEED
    assert np.abs(over_10_ms(velocity)).max() < most_acceleration * ACCELERATION
    assert path[-1] == pytest.approx(commands[-1][1], abs=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_without_further_messages_it_stands_still_one_horizon_later(kind):
    commands = list(limited(lambda _: SPEED, 1.0, np.random.default_rng(0)))
    last_s, place, _ = commands[-1]
    path = execute(kind, commands, 2.0)
    end = round((last_s - BEGIN_S + 0.2) / CYCLE_S) + 1
    assert np.ptp(path[end:]) < 1e-9 and path[-1] < place + SPEED * 0.11
    assert np.diff(path).min() > -0.02 * SPEED * CYCLE_S


@pytest.mark.parametrize('kind', KINDS)
def test_after_a_stall_it_goes_on_without_a_step(kind):
    """The arm was measured a little behind the end of the last trajectory."""
    commands = list(limited(lambda _: 0.5, 1.0, np.random.default_rng(0)))
    last_s, place, _ = commands[-1]
    later = [
        (last_s + 0.4 + PERIOD_S * index, place + 0.02 + 0.001 * index, 0.05)
        for index in range(50)
    ]
    path = execute(kind, commands + later, 2.5)
    assert np.abs(over_10_ms(path)).max() < 1.05 * MOST[kind][0] * 0.5


def test_messages_that_do_not_arrive_for_a_while_cause_no_step():
    """A trajectory goes on from where the controller is; a chunk is where it should be."""
    commands = list(limited(lambda _: SPEED, 2.0, np.random.default_rng(0)))
    step = {
        kind: np.abs(np.diff(execute(kind, commands, 2.0, deaf_s=(1.0, 1.2)))).max() / CYCLE_S
        for kind in KINDS
    }
    assert step['joint_trajectory'] < 5 * SPEED < step['joint_trajectory_chunk']


def test_a_chunk_has_timed_positions_only_and_begins_in_the_past():
    adapter, sent = adapter_of('joint_trajectory_chunk', 0.2)
    adapter.publish(shoulder_at(0.1, 0.5), stamp(BEGIN_S))
    (message,) = sent
    assert tuple(message.joint_names) == ORDER and message.header.frame_id == 'base_link'
    assert not any(len(point.velocities) for point in message.points)
    times = np.array([stamp_to_ns(point.time_from_start) for point in message.points]) * 1e-9
    step_s = 0.02
    np.testing.assert_allclose(times, step_s * np.arange(1, 15), atol=1e-9)
    assert stamp_to_ns(message.header.stamp) * 1e-9 + times[3] == pytest.approx(BEGIN_S)
    places = np.array([point.positions for point in message.points])
    np.testing.assert_allclose(places[:, 0], 0.2)
    assert places[3, 1] == pytest.approx(0.1)
    assert places[-1, 1] == pytest.approx(0.1 + 0.5 * 0.1)


def test_a_chunk_after_a_jump_of_the_reference_does_not_begin_where_the_last_one_led():
    adapter, sent = adapter_of('joint_trajectory_chunk', 0.2)
    adapter.publish(shoulder_at(0.1, 0.0), stamp(BEGIN_S))
    adapter.publish(shoulder_at(0.1 + 2 * SPEED * 0.2, 0.0), stamp(BEGIN_S + 5.0))
    places = np.array([point.positions[1] for point in sent[-1].points])
    np.testing.assert_allclose(places, 0.1 + 2 * SPEED * 0.2)


@pytest.mark.parametrize('kind', KINDS)
def test_without_positions_nothing_is_sent_and_what_was_before_is_forgotten(kind):
    adapter, sent = adapter_of(kind)
    adapter.publish(shoulder_at(0.1, 0.5), stamp(BEGIN_S))
    adapter.publish(JointCommand({'shoulder': 0.0, 'elbow': 0.0}), stamp(BEGIN_S + 0.02))
    assert len(sent) == 1
    adapter.publish(shoulder_at(0.05, 0.0), stamp(BEGIN_S + 0.04))
    assert {round(point.positions[1], 12) for point in sent[-1].points} == {0.05}


def test_at_the_beginning_of_simulated_time_no_stamp_is_negative():
    adapter, sent = adapter_of('joint_trajectory_chunk', 0.2)
    adapter.publish(shoulder_at(0.1, 0.0), stamp(0.02))
    assert not sent
    adapter.publish(shoulder_at(0.1, 0.0), stamp(0.1))
    assert stamp_to_ns(sent[-1].header.stamp) > 0
