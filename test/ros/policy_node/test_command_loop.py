"""The thread of commands: it sees a stop through, and no error ends it."""

from itertools import pairwise
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

import numpy as np
from rclpy.clock import Clock, ClockType

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.controller_config import ControllerConfig
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.state_machine import Event, State
from sqap_vla_ros.ros.policy_node.command_loop import CommandLoop

from support.dds import wait_until

SPEC = ActionSpec(('linear.x', 'linear.y', 'linear.z'), ('m/s',) * 3, 0.1, 200)
GENTLE = MotionLimits(
    workspace_low_m=None,
    workspace_high_m=None,
    linear_acceleration_m_s2=0.04,
    stop_deceleration_m_s2=0.04,
    linear_speed_m_s=0.2,
)


class Outputs:
    """Records commands; fails while `error` is set."""

    def __init__(self):
        self.speeds, self.error, self.holds = [], None, 0

    def publish(self, command, stamp):
        if self.error is not None:
            raise self.error
        self.speeds.append(float(np.linalg.norm(command.linear_m_s)))

    def final_hold(self):
        self.holds += 1


class Rig:
    """A controller whose arm reports no pose, a policy that wants to go on, and the thread."""

    def __init__(self, limits):
        config = ControllerConfig(input_timeouts_s={'camera': 60.0}, ramp_in_s=0.01)
        self.controller = Controller(SPEC, limits, config, time.monotonic_ns)
        self.outputs, self.reports = Outputs(), []
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.loop = CommandLoop(
            clock,
            self.controller,
            self.outputs,
            SimpleNamespace(add=lambda *_: None),
            50.0,
            self.report,
        )
        self.now_ns = lambda: clock.now().nanoseconds

    def report(self, name, error, refused):
        self.reports.append((name, str(error), refused))
        self.controller.hold(f'internal error: {name}')

    def go(self):
        self.controller.event(Event.CONFIGURED)
        self.controller.arrived('camera')
        assert self.controller.start('test').accepted
        rows = np.tile([0.19, 0.0, 0.0], (SPEC.horizon, 1))
        now_ns = self.now_ns()
        self.controller.offer(ActionChunk(rows, SPEC, now_ns, self.controller.generation), now_ns)
        self.loop.start()


def test_a_stop_that_takes_longer_than_three_seconds_is_not_cut():
    rig = Rig(GENTLE)
    rig.go()
    assert wait_until(lambda: rig.outputs.speeds and rig.outputs.speeds[-1] > 0.17, 30)
    rig.controller.event(Event.DEACTIVATED, 'test')
    begun_s, first = time.monotonic(), len(rig.outputs.speeds)
    rig.loop.stop()
    assert time.monotonic() - begun_s > 4.0
    speeds = rig.outputs.speeds[first - 1 :]
    # The limit, and room for a command that came late on a busy machine.
    assert max(a - b for a, b in pairwise(speeds)) < 0.04 * 0.1 + 1e-3
    assert speeds[-1] == 0 and rig.outputs.holds == 1


def test_the_longest_stop_follows_from_the_limits():
    assert Rig(GENTLE).controller.stop_time_s > 0.2 / 0.04
    assert (
        Rig(MotionLimits(workspace_low_m=None, workspace_high_m=None)).controller.stop_time_s < 1
    )


def test_an_error_of_an_output_holds_the_arm_and_ends_nothing():
    rig = Rig(MotionLimits(workspace_low_m=None, workspace_high_m=None))
    rig.go()
    assert wait_until(lambda: rig.outputs.speeds and rig.outputs.speeds[-1] > 0.1, 30)
    rig.outputs.error = RuntimeError('the network is gone')
    assert wait_until(lambda: rig.reports, 10)
    assert rig.reports[0] == ('commands', 'the network is gone', False)
    rig.outputs.error = None
    assert wait_until(lambda: rig.outputs.speeds[-1] == 0, 10)
    assert rig.controller.state is State.HOLDING
    rig.loop.stop()
    assert rig.outputs.holds == 1
