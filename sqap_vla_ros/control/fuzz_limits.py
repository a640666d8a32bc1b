"""
Fuzzes the limiter and the controller with random, hostile input and counts broken limits.

    python -m sqap_vla_ros.control.fuzz_limits --sequences 100000

Half of the sequences feed the limiter alone: steps, oscillation, NaN, infinities, gaps, any
period, jumping or missing positions, from any velocity at any place. The other half feed the
controller: late, early, out-of-order, outdated and non-finite chunks, stalled inputs, jumping
clocks and random events.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
import copy
from dataclasses import replace
from math import hypot, inf, nan
from random import Random
import sys
import time

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.audit import CommandAudit, Violation
from sqap_vla_ros.control.chunk_executor import ExecutorConfig, Mode
from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.controller_config import ControllerConfig
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.limits import CommandLimiter, MAX_PERIOD_S, MIN_PERIOD_S, MotionLimits
from sqap_vla_ros.control.state_machine import Event

TICKS = 30
_SPEC = ActionSpec(
    ('linear.x', 'linear.y', 'linear.z', 'angular.x', 'angular.y', 'angular.z', 'gripper'),
    ('m/s',) * 3 + ('rad/s',) * 3 + ('1',),
    0.05,
    8,
)
_SPECIAL = (nan, inf, -inf, 0.0, 1e300, -1e300, 1e-300)
_EVENTS = (
    Event.START,
    Event.RESUME,
    Event.HOLD,
    Event.ESTOP,
    Event.RESET_ESTOP,
    Event.FINISHED,
    Event.DEACTIVATED,
    Event.INFERENCE_FAILED,
)


def fuzz(sequences: Iterable[int], seed: int = 0) -> tuple[Counter[Violation], int, int]:
    """
    Run sequences and audit every command.

    Args:
        sequences: Numbers of the sequences; each determines its input, together with `seed`.
        seed: Another seed gives other sequences.

    Returns:
        Number of violations by kind, number of commands, and number of the limiter's commands
        under the limits of a stop.
    """
    violations: Counter[Violation] = Counter()
    commands = stops = 0
    for index in sequences:
        rng = Random(f'{seed} {index}')
        limits = _random_limits(rng)
        audit = CommandAudit(limits)
        if index % 2:
            _controller_sequence(rng, limits, audit)
        else:
            stops += _limiter_sequence(rng, limits, audit)
        violations += audit.violations
        commands += audit.commands
    return violations, commands, stops


def effective_period_s(period_s: float) -> float:
    """
    Convert a period to the time over which the limiter changes its command.

    Args:
        period_s: Any number.

    Returns:
        At most MAX_PERIOD_S; 0 where the limiter repeats its last command.
    """
    return min(period_s, MAX_PERIOD_S) if MIN_PERIOD_S <= period_s < inf else 0.0


def _random_limits(rng: Random) -> MotionLimits:
    def between(low: float, high: float) -> float:
        return low * float((high / low) ** rng.random())

    acceleration, angular = between(0.1, 20), between(0.1, 50)
    jerk = between(1, 500) if rng.random() < 0.7 else None
    low = rng.uniform(-1, 0.5), rng.uniform(-1, 0.5), rng.uniform(-1, 0.5)
    workspace = rng.random() < 0.8
    return MotionLimits(
        workspace_low_m=low if workspace else None,
        workspace_high_m=(
            low[0] + between(0.02, 2),
            low[1] + between(0.02, 2),
            low[2] + between(0.02, 2),
        )
        if workspace
        else None,
        workspace_margin_m=rng.choice((0.0, 0.003)),
        linear_speed_m_s=between(0.02, 2),
        angular_speed_rad_s=between(0.05, 5),
        linear_acceleration_m_s2=acceleration,
        angular_acceleration_rad_s2=angular,
        linear_jerk_m_s3=jerk,
        angular_jerk_rad_s3=jerk,
        stop_deceleration_m_s2=acceleration * between(1, 4),
        angular_stop_deceleration_rad_s2=angular * between(1, 4),
        stop_jerk_m_s3=None if jerk is None else jerk * between(1, 4),
        angular_stop_jerk_rad_s3=None if jerk is None else jerk * between(1, 4),
        gripper_debounce_s=rng.choice((0.0, 0.1)),
    )


def _limiter_sequence(rng: Random, limits: MotionLimits, audit: CommandAudit) -> int:
    limiter = CommandLimiter(limits)
    limiter.reset(
        *(
            [rng.gauss(0, 1) * speed for _ in range(3)]
            for speed in (limits.linear_speed_m_s, limits.angular_speed_rad_s)
        )
    )
    jumps = rng.random() < 0.3
    nominal_s = rng.choice((0.002, 0.01, 0.02, 0.05))
    jitter = rng.random() < 0.5
    position = _random_position(rng, limits)
    wanted: Command | None = None
    stops = 0
    scale = 10 ** rng.uniform(-3, 2)
    for _ in range(TICKS):
        if rng.random() < 0.2:
            wanted = _random_command(rng, scale)
        period_s = _random_period(rng, nominal_s) if jitter else nominal_s
        if jumps and rng.random() < 0.1:
            position = _random_position(rng, limits)
        measured: Sequence[float] | None = position
        if rng.random() < 0.03:
            measured = rng.choice((None, (nan, 0.0, 0.0), (inf, 0.0, 0.0)))
        command = limiter.limit(wanted, period_s, measured)
        effective_s = effective_period_s(period_s)
        audit.check(command, effective_s, limiter.stopping)
        if limiter.stopping:
            stops += 1
        elif (
            not jitter
            and limits.workspace_low_m is not None
            and rng.random() < 0.2
            and not _stop_stays_inside(limiter, limits, position, nominal_s)
        ):
            audit.violations[Violation.WORKSPACE] += 1
        velocity = command.linear_m_s.tolist()
        position = [at + speed * effective_s for at, speed in zip(position, velocity)]
    return stops


def _stop_stays_inside(
    limiter: CommandLimiter, limits: MotionLimits, position: Sequence[float], period_s: float
) -> bool:
    """Stop a copy of the limiter and check that it does not leave the workspace any further."""
    assert limits.workspace_low_m is not None and limits.workspace_high_m is not None
    limiter = copy.deepcopy(limiter)
    low = [min(at, bound) - 1e-6 for at, bound in zip(position, limits.workspace_low_m)]
    high = [max(at, bound) + 1e-6 for at, bound in zip(position, limits.workspace_high_m)]
    velocity = limiter.linear_m_s.tolist()
    while hypot(*velocity) > 1e-6:
        position = [at + speed * period_s for at, speed in zip(position, velocity)]
        if not all(a <= at <= b for a, at, b in zip(low, position, high)):
            return False
        velocity = limiter.limit(None, period_s).linear_m_s.tolist()
    return True


def _controller_sequence(rng: Random, limits: MotionLimits, audit: CommandAudit) -> None:
    steady_ns = [0]
    controller = Controller(
        _SPEC,
        limits,
        ControllerConfig(
            input_timeouts_s={'camera': 0.3, 'pose': 0.3},
            ramp_in_s=rng.choice((0.01, 0.3)),
            underrun_timeout_s=0.2,
            saturation_timeout_s=rng.choice((None, 0.3)),
            executor=ExecutorConfig(
                rng.choice(tuple(Mode)), rng.random() < 0.5, rng.choice((0.0, 0.1))
            ),
        ),
        lambda: steady_ns[0],
    )
    if rng.random() < 0.9:
        controller.event(Event.CONFIGURED)
    offset_ns = rng.randrange(10**9)
    position = np.array(_random_position(rng, limits))
    consent, started = False, rng.randrange(3)
    scale = 10 ** rng.uniform(-3, 2)
    for tick in range(TICKS):
        period_s = abs(_random_period(rng, 0.02)) if rng.random() < 0.1 else 0.02
        period_s = min(period_s, 1.0) if period_s == period_s else 0.0
        steady_ns[0] += round(period_s * 1e9)
        if rng.random() < 0.01:
            offset_ns += rng.randrange(-(10**9), 10**9)
        now_ns = steady_ns[0] + offset_ns
        if rng.random() < 0.95:
            controller.arrived('camera')
            controller.pose(position if rng.random() < 0.98 else position * nan, now_ns)
        event = rng.choice(_EVENTS) if rng.random() < 0.04 else None
        if tick == started:
            event = Event.START
        if event is not None:
            accepted = controller.event(event).accepted
            consent |= accepted and event in (Event.START, Event.RESUME)
        if rng.random() < 0.3:
            _offer(rng, controller, now_ns, scale)
        command = controller.tick(now_ns)
        assert not isinstance(command, JointCommand)
        if command is None or period_s > MAX_PERIOD_S:
            audit.reset()  # after a late tick motion begins anew, as measured
        if command is None:
            continue
        audit.check(command, effective_period_s(period_s))
        if not consent and not command.still:
            audit.violations[Violation.CONSENT] += 1
        position = position + command.linear_m_s * effective_period_s(period_s)


def _offer(rng: Random, controller: Controller, now_ns: int, scale: float) -> None:
    values = np.array([[rng.gauss(0, scale) for _ in range(7)]] * _SPEC.horizon)
    if rng.random() < 0.1:
        values[rng.randrange(_SPEC.horizon), rng.randrange(7)] = rng.choice(_SPECIAL[:3])
    spec = replace(_SPEC, step_s=0.04) if rng.random() < 0.03 else _SPEC
    stamp_ns = now_ns - round(rng.uniform(-0.1, 0.5) * 1e9)
    generation = controller.generation - (rng.random() < 0.1)
    controller.offer(ActionChunk(values, spec, stamp_ns, generation), now_ns)


def _random_command(rng: Random, scale: float) -> Command | None:
    kind = rng.random()
    if kind < 0.1:
        return None
    values = [rng.gauss(0, scale) for _ in range(7)]
    if kind < 0.25:
        values[rng.randrange(7)] = rng.choice(_SPECIAL)
    return Command(values[:3], values[3:6], None if kind > 0.9 else values[6])


def _random_period(rng: Random, nominal_s: float) -> float:
    kind = rng.random()
    if kind < 0.05:
        return rng.choice((0.0, -0.01, nan, inf, 1.0, 1e-5, 1.1e-4, 1e-300))
    return nominal_s * rng.uniform(0.2, 3)


def _random_position(rng: Random, limits: MotionLimits) -> list[float]:
    if limits.workspace_low_m is None or limits.workspace_high_m is None:
        return [rng.uniform(-1, 1) for _ in range(3)]
    return [
        low + rng.uniform(-0.1, 1.1) * (high - low)
        for low, high in zip(limits.workspace_low_m, limits.workspace_high_m)
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the result; returns 1 if a limit was broken."""
    parser = argparse.ArgumentParser(
        description='Fuzz the limiter and the controller, and count broken limits.'
    )
    parser.add_argument('--sequences', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=1, help='number of processes')
    arguments = parser.parse_args(argv)
    begun = time.perf_counter()
    parts = [range(first, arguments.sequences, arguments.jobs) for first in range(arguments.jobs)]
    if arguments.jobs == 1:
        results = [fuzz(parts[0], arguments.seed)]
    else:
        with ProcessPoolExecutor(arguments.jobs) as pool:
            results = list(pool.map(fuzz, parts, [arguments.seed] * len(parts)))
    violations: Counter[Violation] = Counter()
    for found, _, _ in results:
        violations += found
    commands = sum(count for _, count, _ in results)
    stops = sum(count for _, _, count in results)
    print(
        f'{arguments.sequences} sequences, {commands} commands, {stops} under stop limits, '
        f'{time.perf_counter() - begun:.0f} s: {violations.total()} violations'
    )
    for violation, count in violations.most_common():
        print(f'  {violation.value}: {count}')
    return 1 if violations else 0


if __name__ == '__main__':
    sys.exit(main())
