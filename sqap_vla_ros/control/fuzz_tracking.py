"""
Fuzzes the controller with arms that lag and sensors that lie, and counts what must not happen.

    python -m sqap_vla_ros.control.fuzz_tracking --steps 200000

Each scenario draws an arm that is commanded by twists, joint velocities or joint positions, with a
delay, a lag and a gain within the tracking limits; a sensor that is slow, late or noisy; command
rates of 10 to 200 Hz with late ticks; and a policy that mostly wants to leave the workspace. Then
it draws faults: the sensor freezes, jumps or has a second publisher that sends zeros, the arm
stops following, our loop stalls, the clock jumps, and people hold, stop, reset and resume at any
time. After every step the commands and the true arm are compared with independent references.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from math import hypot, inf
from random import Random
import sys
import time

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.control.command_space import RobotCommand
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.fuzz_arm import SimulatedArm, SimulatedSensor
from sqap_vla_ros.control.fuzz_references import (
    CommandReference,
    Fault,
    MeasuredVelocity,
    outside,
    PositionReference,
)
from sqap_vla_ros.control.fuzz_scenario import AXES, draw_scenario, GAIN, HIGH, JOINTS, LOW
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.limits import MAX_PERIOD_S
from sqap_vla_ros.control.state_machine import Event, State, Transition

TICKS = 400
"""Steps of a scenario."""
REST_S = 0.7
"""After this time at standstill an arm has done what it had yet to do."""
_EVENTS = (
    Event.HOLD,
    Event.ESTOP,
    Event.RESET_ESTOP,
    Event.FINISHED,
    Event.DEACTIVATED,
    Event.START,
    Event.RESUME,
)


@dataclass
class Result:
    """What was counted."""

    steps: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    holds: int = 0
    """Because of tracking errors."""
    worst: float = -inf
    """Farthest that an arm was beyond its bounds, where that is to be prevented, m or rad."""
    scenarios: set[str] = field(default_factory=set)
    """Those with faults."""

    def add(self, other: 'Result') -> None:
        """Add what another one counted."""
        self.steps += other.steps
        self.faults += other.faults
        self.holds += other.holds
        self.worst = max(self.worst, other.worst)
        self.scenarios |= other.scenarios


class Run:
    """
    Drives a controller through a scenario.

    Args:
        seed: Determines everything.
    """

    def __init__(self, seed: str) -> None:
        self._rng = rng = Random(seed)
        self._scenario = scenario = draw_scenario(rng)
        self.result = Result()
        self._arm = SimulatedArm(scenario.arm, [rng.uniform(-0.25, 0.25) for _ in range(AXES)])
        self._sensor = SimulatedSensor(scenario.sensor, rng)
        self._measured = MeasuredVelocity()
        self._offset_s, self._steady_s = rng.uniform(1e3, 1e4), rng.uniform(1, 1e3)
        self._controller = Controller(
            scenario.spec,
            scenario.limits,
            scenario.config,
            lambda: round(self._steady_s * 1e9),
            scenario.joints,
        )
        self._controller.listen(self._heard)
        self._controller.event(Event.CONFIGURED)
        self._commands = CommandReference(scenario.groups, self.result.faults)
        self._positions = PositionReference(self.result.faults)
        length_s = TICKS * scenario.config.command_period_s * scenario.pace
        self._fault_s = rng.uniform(0.1, 0.6) * length_s, rng.uniform(0.05, 4.0)
        """When the fault begins, and how long it lasts; time of the arm."""
        self._faulty = False
        """Whether it has begun."""
        self._wanted = [0.0] * AXES
        self._offered_s = self._left_s = 0.0
        self._consented = False
        """Whether motion was consented to since the last command."""
        self._may_move = False
        """Whether there was consent to motion that has not come to rest since."""
        self._gap_s: float | None = None
        """When our loop came late, where motion has not begun anew since."""
        self._gap_from: list[float] = []
        self._still_s = self._told_s = 0.0
        self._clock_jumped = False
        self._excess = 0.0
        """Distance beyond the bounds that faults may cost which nothing can detect, m or rad."""
        self._missing: list[float] | None = None
        """What was commanded since arm or sensor stand still, while running."""

    def run(self, steps: int) -> Result:
        """Take some steps."""
        for _ in range(steps):
            period_s = self._wait()
            self._move(self._arm.time_s + period_s * self._scenario.pace)
            self._act()
            self._tick(period_s)
            self.result.steps += 1
        return self.result

    @property
    def _now_s(self) -> float:
        """Time on the observations' clock."""
        return self._arm.time_s + self._offset_s

    def _is(self, fault: str) -> bool:
        begin_s, length_s = self._fault_s
        active = begin_s <= self._arm.time_s < begin_s + length_s
        self._faulty |= active
        return active and self._scenario.fault == fault

    def _again(self) -> None:
        """Let a fault that takes no time happen again."""
        self._fault_s = self._arm.time_s + self._rng.uniform(0.5, 2), 0.5

    def _wait(self) -> float:
        """Let time pass on the steady clock until the next tick; returns how long, seconds."""
        rng, period_s = self._rng, self._scenario.config.command_period_s
        if rng.random() < 0.05:
            period_s = rng.uniform(0.5 * period_s, max(0.09, 1.5 * period_s))
        if self._is('gap'):
            period_s = rng.uniform(0.1, 1.0)
            self._again()
            self._go_on(period_s)
        elif self._gap_s is not None:
            self._go_on(period_s)
        if self._is('clock'):
            self._offset_s += rng.choice((-1, 1)) * rng.choice((0.05, 0.1, 0.3, 1.0, 5.0))
            self._measured.forget()
            self._clock_jumped = True
            self._again()
        self._steady_s += period_s
        return period_s

    def _go_on(self, period_s: float) -> None:
        """Allow for an arm that goes on without commands while our loop stalls."""
        if self._scenario.arm.hold_s == inf:
            silent_s = self._arm.time_s - self._told_s + period_s * self._scenario.pace
            self._excess = max(self._excess, (1 + GAIN) * self._scenario.speed * silent_s)

    def _move(self, time_s: float) -> None:
        """Move the arm, and hand over what is measured."""
        sensor, arm = self._sensor, self._arm
        dead = self._is('dead')
        sensor.frozen, sensor.zeros = self._is('frozen'), self._is('zeros')
        sensor.clock_s = self._offset_s
        if not self._is('offset'):
            sensor.offset = None
        elif sensor.offset is None:
            size = 10 ** self._rng.uniform(-3, 0)
            sensor.offset = [self._rng.uniform(-size, size) for _ in range(AXES)]
        while sensor.next_s <= time_s:
            self._look(arm.advance(sensor.next_s, dead))
            sensor.measure(arm.place)
        self._look(arm.advance(time_s, dead))
        for stamp_s, place in sensor.arrived(arm.time_s):
            age_s = self._now_s - stamp_s
            if not -0.05 < age_s < 3:
                continue  # the node refuses them
            self._measured.add(stamp_s, place)
            stamp_ns = round(stamp_s * 1e9)
            if self._scenario.joints is None:
                self._controller.pose(place, stamp_ns, age_s)
            else:
                positions = dict(zip(JOINTS, place))
                self._controller.joints(positions, stamp_ns, age_s, 'pose')

    def _look(self, places: Sequence[Sequence[float]]) -> None:
        """Look where the arm is."""
        for place in places:
            beyond = outside(place, LOW, HIGH)
            if self._excess <= abs(self._scenario.arm.sag):
                self.result.worst = max(self.result.worst, beyond)
            if beyond > self._excess + 1e-6:
                self.result.faults[Fault.OUTSIDE] += 1

    def _act(self) -> None:
        """Let the policy answer, and people act."""
        rng, controller, time_s = self._rng, self._controller, self._steady_s
        controller.arrived('camera')
        if controller.state is State.RUNNING and time_s > self._offered_s + 0.1:
            self._offered_s = time_s
            if rng.random() < 0.1:
                self._wanted = self._draw_wanted()
            rows = np.tile(self._wanted, (self._scenario.spec.horizon, 1))
            now_ns = round(self._now_s * 1e9)
            controller.offer(
                ActionChunk(rows, self._scenario.spec, now_ns - 1, controller.generation), now_ns
            )
        if self._scenario.events and rng.random() < 0.02:
            self._raise(rng.choice(_EVENTS))
        if controller.state is State.RUNNING:
            self._left_s = time_s
        elif time_s > self._left_s + 1.5:
            self._left_s = time_s
            self._raise(Event.RESET_ESTOP)
            self._raise(rng.choice((Event.START, Event.RESUME)))

    def _draw_wanted(self) -> list[float]:
        """Draw what the policy wants: mostly to go on, into a wall."""
        rng, speed = self._rng, self._scenario.speed
        if self._scenario.spec.units[0] == 'rad':
            return [rng.uniform(-0.6, 0.6) for _ in range(AXES)]
        share = rng.choice((1.5, 1.0, 0.3))
        return [rng.choice((-1, 1, 0, rng.uniform(-1, 1))) * share * speed for _ in range(AXES)]

    def _raise(self, event: Event) -> None:
        ready = self._controller.state is State.READY
        if self._controller.event(event).accepted and event in (Event.START, Event.RESUME):
            self._consented = self._may_move = True
            self._missing = None
            if ready:  # begins where the arm has come to rest, and then it sags once more
                self._excess += abs(self._scenario.arm.sag)
            if self._faulty and self._scenario.fault in ('frozen', 'offset', 'zeros'):
                self._excess += self._lie()

    def _lie(self) -> float:
        """Compute how far a sensor may be wrong without being noticed."""
        limit = self._scenario.error + self._scenario.pending
        if self._sensor.offset is not None and self._consented:
            return max(map(abs, self._sensor.offset))
        return limit

    def _heard(self, transition: Transition) -> None:
        if transition.event is Event.TRACKING_ERROR:
            self.result.holds += 1
            if not self._faulty:
                self.result.faults[Fault.FALSE_HOLD] += 1

    def _tick(self, period_s: float) -> None:
        """Take a command and compare it with the references."""
        if self._scenario.fault in ('offset', 'zeros') and self._faulty:
            self._excess = max(self._excess, self._lie())
        controller, before = self._controller, self._commands.velocity
        moving = before is not None and any(before)
        if period_s > self._scenario.config.gap_s and (
            moving or controller.state is State.RUNNING
        ):
            self._gap_s, self._gap_from = self._now_s, list(before or [0.0] * AXES)
        waited_s = self._arm.time_s - self._told_s
        command = controller.tick(round(self._now_s * 1e9), round(self._steady_s * 1e9))
        if command is None:
            if moving and self._gap_s is None:
                self.result.faults[Fault.STOP_TIME] += 1  # falls silent in motion
            return
        velocity, position = _parts(command)
        running = controller.state is State.RUNNING
        if self._gap_s is not None:
            self._check_after_gap(velocity, min(period_s, MAX_PERIOD_S), running)
        self._commands.check(velocity, period_s, running)
        self._check_consent(velocity, running)
        self._check_position(position, velocity, waited_s, period_s)
        self._check_missing(velocity, running, waited_s)
        self._arm.command(velocity, position, self._arm.time_s)
        self._told_s = self._arm.time_s
        self._gap_s, self._consented, self._clock_jumped = None, False, False

    def _check_after_gap(self, velocity: Sequence[float], period_s: float, running: bool) -> None:
        """Motion begins as measured; a stop goes on no faster than it was."""
        self._commands.reset()
        measured, newest_s = self._measured.velocity, self._measured.newest_s
        for group in self._scenario.groups:
            now, then = velocity[group.axes], self._gap_from[group.axes]
            if not running and hypot(*now) > hypot(*then) + 1e-9:
                self.result.faults[Fault.AFTER_GAP] += 1
            if running and measured and newest_s and self._gap_s and newest_s >= self._gap_s:
                part = measured[group.axes]
                share = min(1.0, group.speed / max(hypot(*part), 1e-12))
                change = hypot(*(a - share * b for a, b in zip(now, part)))
                if change > group.deceleration * period_s + 1e-6:
                    self.result.faults[Fault.AFTER_GAP] += 1

    def _check_consent(self, velocity: Sequence[float], running: bool) -> None:
        if any(velocity):
            self._still_s = self._arm.time_s
            if not self._may_move:
                self.result.faults[Fault.CONSENT] += 1
        elif not running:
            self._may_move = False

    def _check_position(
        self,
        position: list[float] | None,
        velocity: list[float],
        waited_s: float,
        period_s: float,
    ) -> None:
        """Positions follow from velocities; there are none where the arm is not."""
        anew = self._consented or self._gap_s is not None
        held_s = waited_s
        if self._gap_s is not None:
            held_s = min(waited_s, self._scenario.config.gap_s)
        if self._clock_jumped:
            self._positions.position = None
        place, newest_s = self._measured.place, self._measured.newest_s
        reach = self._scenario.speed * (self._now_s - (newest_s or 0.0))
        self._positions.check(position, velocity, held_s, place if anew else None, reach)
        rested_s = self._arm.time_s - self._still_s
        if (
            position is not None
            and place is not None
            and newest_s is not None
            and self._scenario.arm.absolute
            and self._controller.state is not State.RUNNING
            and rested_s > REST_S
            and newest_s > self._now_s - rested_s + REST_S
            and max(abs(a - b) for a, b in zip(position, place)) > self._scenario.error + 1e-6
        ):
            self.result.faults[Fault.WITHDRAWN] += 1

    def _check_missing(self, velocity: Sequence[float], running: bool, waited_s: float) -> None:
        """Check that what an arm or a sensor does not do is noticed in time."""
        scenario = self._scenario
        if not running or not (self._is('frozen') or self._is('dead')):
            self._missing = None
            return
        last = self._missing or [0.0] * AXES
        self._missing = [at + v * waited_s for at, v in zip(last, velocity)]
        age_s = scenario.sensor.period_s + scenario.sensor.latency_s + 0.2
        limit = 2 * (scenario.error + scenario.pending) + age_s * scenario.speed
        worst = max(map(abs, self._missing)) if scenario.joints else hypot(*self._missing)
        if worst > limit:
            self.result.faults[Fault.UNNOTICED] += 1


def _parts(command: RobotCommand) -> tuple[list[float], list[float] | None]:
    """Take velocities and positions of a command."""
    if not isinstance(command, JointCommand):
        return command.linear_m_s.tolist(), None
    velocity = [command.velocities[name] for name in JOINTS]
    if not command.positions:
        return velocity, None
    return velocity, [command.positions[name] for name in JOINTS]


def fuzz(scenarios: Sequence[int], steps: int, seed: int = 0) -> Result:
    """
    Run scenarios.

    Args:
        scenarios: Their numbers; each determines its input, together with `seed`.
        steps: Of each scenario.
        seed: Another seed gives other scenarios.

    Returns:
        What was counted.
    """
    total = Result()
    for index in scenarios:
        result = Run(f'{seed} {index}').run(steps)
        if result.faults:
            kinds = ', '.join(sorted(fault.value for fault in result.faults))
            result.scenarios.add(f'scenario {index}: {kinds}')
        total.add(result)
    return total


def main(argv: list[str] | None = None) -> int:
    """Print the result; returns 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().splitlines()[0])
    parser.add_argument('--steps', type=int, default=20000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=1, help='number of processes')
    arguments = parser.parse_args(argv)
    begun = time.perf_counter()
    numbers = range(-(-arguments.steps // TICKS))
    parts = [numbers[first :: arguments.jobs] for first in range(arguments.jobs)]
    ticks = [min(TICKS, arguments.steps)] * len(parts)
    seeds = [arguments.seed] * len(parts)
    total = Result()
    if arguments.jobs == 1:
        total = fuzz(parts[0], ticks[0], seeds[0])
    else:
        with ProcessPoolExecutor(arguments.jobs) as pool:
            for result in pool.map(fuzz, parts, ticks, seeds):
                total.add(result)
    excursions = total.faults.pop(Fault.OUTSIDE, 0)
    print(
        f'{len(numbers)} scenarios, {total.steps} steps, {total.holds} holds for tracking errors, '
        f'{time.perf_counter() - begun:.0f} s: {total.faults.total()} violations, '
        f'{excursions} excursions; nearest to a bound {-1e3 * total.worst:.1f} mm or mrad inside'
    )
    for fault, number in total.faults.most_common():
        print(f'  {fault.value}: {number}')
    for line in sorted(total.scenarios)[:20]:
        print(f'  {line}')
    return 1 if total.faults or excursions else 0


if __name__ == '__main__':
    sys.exit(main())
