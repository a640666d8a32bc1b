"""A controller with a simulated arm and sensor, in twist or joint space, on clocks of its own."""

from math import inf
from random import Random

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.controller_config import ControllerConfig
from sqap_vla_ros.control.fuzz_arm import ArmModel, SensorModel, SimulatedArm, SimulatedSensor
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.plausibility import TrackingLimits
from sqap_vla_ros.control.state_machine import Event, State

JOINTS = ('shoulder', 'elbow', 'wrist')
WALL = 0.3
TWISTS = MotionLimits((-WALL,) * 3, (WALL,) * 3)


class TrackedArm:
    """
    What `Controller` commands, what the arm does, and what is measured of it.

    Args:
        space: 'twist', 'velocity' or 'position': what the arm takes.
        rate_hz: Of the commands.
        speed: Limit.
        sensor: How the arm is measured.
        pace: Of the observations' clock, seconds per steady second.
        arm: Arguments of `ArmModel`.
    """

    def __init__(
        self, space='twist', rate_hz=50, speed=0.25, sensor=SensorModel(0.01, 0.0), pace=1.0, **arm
    ):
        self.period_s, self.pace, self.space = 1 / rate_hz, pace, space
        absolute = space == 'position'
        arm = {'delay_s': 0.0, 'lag_s': 0.0, 'hold_s': 0.1 if absolute else inf, **arm}
        self.arm = SimulatedArm(ArmModel(3, absolute, **arm), [0.0] * 3)
        self.sensor = SimulatedSensor(sensor, Random(0))
        self.sensor.clock_s = 1000.0
        self.steady_s = 10.0
        self.wanted, self.policy, self.dead, self.wrong = [speed, 0.0, 0.0], True, False, None
        self.commands, self.transitions = [], []
        limits, joints = TWISTS, None
        names, unit = ('linear.x', 'linear.y', 'linear.z'), 'm/s'
        if space == 'twist':
            limits = MotionLimits((-WALL,) * 3, (WALL,) * 3, linear_speed_m_s=speed)
        else:
            tracking = TrackingLimits(0.1, 0.1, absolute)
            joint = JointLimits(speed, 4.0, None, -WALL, WALL, tracking=tracking)
            joints = dict.fromkeys(JOINTS, joint)
            names, unit = tuple(f'joint_velocity.{name}' for name in JOINTS), 'rad/s'
        self.spec = ActionSpec(names, (unit,) * 3, 0.05, 8)
        self.controller = Controller(
            self.spec,
            limits,
            ControllerConfig(
                command_period_s=self.period_s,
                input_timeouts_s={'measured': 2.0 / pace, 'pose': 2.0 / pace}
                if space == 'twist'
                else {'measured': 2.0 / pace},
                saturation_timeout_s=None,
                gap_s=max(0.1, 2 * self.period_s),
            ),
            lambda: round(self.steady_s * 1e9),
            joints,
        )
        self.controller.listen(self.transitions.append)
        self.controller.event(Event.CONFIGURED)

    @property
    def now_s(self):
        return self.arm.time_s + self.sensor.clock_s

    @property
    def state(self):
        return self.controller.state

    @property
    def reason(self):
        return self.controller.status(0).reason

    def start(self):
        """Wait for a measurement and consent."""
        self.run(1.0)
        transition = self.controller.start()
        assert transition.accepted, transition.reason
        return self

    def measure(self, place):
        """Hand over a measurement of now."""
        now_ns = round(self.now_s * 1e9)
        self._hand_over(now_ns, place, 0.0)

    def run(self, seconds, watch=lambda: None):
        """Let time pass; returns the commands of it."""
        begun = len(self.commands)
        for _ in range(round(seconds / self.period_s)):
            self.step(self.period_s)
            watch()
        return self.commands[begun:]

    def step(self, period_s):
        """Let one tick come after `period_s` on the steady clock."""
        self.steady_s += period_s
        end_s = self.arm.time_s + period_s * self.pace
        while self.sensor.next_s <= end_s:
            self.arm.advance(self.sensor.next_s, self.dead)
            self.sensor.measure(self.arm.place if self.wrong is None else self.wrong)
        self.arm.advance(end_s, self.dead)
        for stamp_s, place in self.sensor.arrived(self.arm.time_s):
            self._hand_over(round(stamp_s * 1e9), place, self.now_s - stamp_s)
        now_ns = round(self.now_s * 1e9)
        if self.policy:
            rows = np.tile(self.wanted, (self.spec.horizon, 1))
            controller = self.controller
            controller.offer(
                ActionChunk(rows, self.spec, now_ns - 1, controller.generation), now_ns
            )
        command = self.controller.tick(now_ns)
        self.commands.append(command)
        if command is not None:
            self.arm.command(*velocity_and_position(command), self.arm.time_s)
        return command

    def _hand_over(self, stamp_ns, place, age_s):
        if self.space == 'twist':
            self.controller.pose(place, stamp_ns, age_s)
            self.controller.arrived('measured', age_s)
        else:
            self.controller.joints(dict(zip(JOINTS, place)), stamp_ns, age_s, 'measured')

    def held(self):
        """Whether it holds because of a tracking error."""
        return self.state is State.HOLDING and self.reason.startswith('tracking error')


def velocity_and_position(command):
    """Velocities, and positions or None, of a command of either space."""
    if not isinstance(command, JointCommand):
        return command.linear_m_s.tolist(), None
    positions = [command.positions[name] for name in JOINTS] if command.positions else None
    return [command.velocities[name] for name in JOINTS], positions
