"""Position, velocity, acceleration and jerk limits of joints."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
import math

from sqap_vla_ros.control.limits import MAX_PERIOD_S, MIN_PERIOD_S, or_infinite, require_positive
from sqap_vla_ros.control.plausibility import TrackingLimits
from sqap_vla_ros.control.velocity_limiter import GroupLimits, Limit, VelocityLimiter


@dataclass(frozen=True)
class JointLimits:
    """
    Limits of one joint; radians, or metres for a prismatic joint.

    Raises:
        ValueError: A limit is wrong; the message names the field.
    """

    velocity: float
    acceleration: float
    jerk: float | None = None
    """None: not limited."""
    position_low: float = -math.inf
    """-inf and inf for a continuous joint."""
    position_high: float = math.inf
    position_margin: float = 0.005
    """Distance from the end of the range at which motion towards it is planned to end."""
    stop_deceleration: float | None = None
    """At least `acceleration`; None: equal to it."""
    stop_jerk: float | None = None
    """At least `jerk`; None: equal to it."""
    tracking: TrackingLimits = TrackingLimits(0.1)
    """How far the measured position may be from where the commands lead."""

    def __post_init__(self) -> None:
        for name in ('velocity', 'acceleration', 'jerk', 'stop_deceleration', 'stop_jerk'):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        for stop, motion in (('stop_deceleration', 'acceleration'), ('stop_jerk', 'jerk')):
            if getattr(self, stop) is None:
                object.__setattr__(self, stop, getattr(self, motion))
            if or_infinite(getattr(self, stop)) < or_infinite(getattr(self, motion)):
                raise ValueError(
                    f'{stop} is {getattr(self, stop)}, expected at least {motion}, '
                    f'{getattr(self, motion)}'
                )
        if not (math.isfinite(self.position_margin) and self.position_margin >= 0):
            raise ValueError(
                f'position_margin is {self.position_margin}, expected a finite '
                'number, not negative'
            )
        if not self.position_low + 2 * self.position_margin < self.position_high:
            raise ValueError('position_low must be below position_high, by more than two margins')

    @property
    def continuous(self) -> bool:
        """Whether the joint turns without an end, so that a whole turn leads to the same place."""
        return self.position_low == -math.inf and self.position_high == math.inf


class JointLimiter:
    """
    Limits joint velocities; not thread-safe.

    Each joint has the same order of limits and the same guarantees as in `CommandLimiter`. If one
    joint is too fast, all are scaled alike, which keeps the direction in joint space. Joints are
    looked up by name. If one is missing, from the positions or from what is wanted, all stop;
    nothing is filled in.

    Args:
        joints: Joint name to its limits.

    Raises:
        ValueError: There are no joints.
    """

    def __init__(self, joints: Mapping[str, JointLimits]) -> None:
        if not joints:
            raise ValueError('no joints')
        self.joints = dict(joints)
        self.counts: Counter[Limit] = Counter()
        """Number of limited commands so far, by limit."""
        self.limited: frozenset[Limit] = frozenset()
        """Limits that changed the last command."""
        self._limiters = {
            name: VelocityLimiter(
                GroupLimits(
                    joint.velocity,
                    joint.acceleration,
                    or_infinite(joint.jerk),
                    joint.acceleration
                    if joint.stop_deceleration is None
                    else joint.stop_deceleration,
                    or_infinite(joint.stop_jerk),
                    (joint.position_low,),
                    (joint.position_high,),
                    joint.position_margin,
                    Limit.JOINT_POSITION,
                )
            )
            for name, joint in joints.items()
        }

    @property
    def stopping(self) -> bool:
        """Whether any joint was under the stop's limits rather than the motion's."""
        return any(limiter.stopping for limiter in self._limiters.values())

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds."""
        return max(limiter.stop_time_s for limiter in self._limiters.values())

    def reset(self, velocities: Mapping[str, float]) -> None:
        """
        Continue from the given velocities instead of the last command.

        Args:
            velocities: Joint name to velocity, rad/s or m/s.

        Raises:
            ValueError: A velocity is missing or not finite.
        """
        bad = [name for name in self.joints if not math.isfinite(velocities.get(name, math.nan))]
        if bad:
            raise ValueError(f'velocities of joints {bad} are missing or not finite')
        for name, limiter in self._limiters.items():
            limiter.reset([velocities[name]])

    def limit(
        self,
        wanted: Mapping[str, float] | None,
        period_s: float,
        positions: Mapping[str, float],
        highest: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """
        Compute the velocity of each joint to command now.

        Args:
            wanted: Joint name to wanted velocity, rad/s or m/s; None stops.
            period_s: Time since the last call, seconds. Below MIN_PERIOD_S, or if it is not
                finite, the last velocities are repeated.
            positions: Joint name to measured position, rad or m. Other joints are ignored.
            highest: The joints are anywhere between `positions` and here; None: exactly there.

        Returns:
            Joint name to velocity, rad/s or m/s.
        """
        limited: set[Limit] = set()
        if MIN_PERIOD_S <= period_s < math.inf:
            period_s = min(period_s, MAX_PERIOD_S)
            if wanted is not None and (
                set(wanted) != set(self.joints) or not all(map(math.isfinite, wanted.values()))
            ):
                limited.add(Limit.NON_FINITE)
                wanted = None
            if wanted is not None and not all(
                math.isfinite(positions.get(name, math.nan)) for name in self.joints
            ):
                limited.add(Limit.POSITION_UNKNOWN)
                wanted = None
            share = 1.0
            if wanted is not None:
                share = min(
                    joint.velocity / max(abs(wanted[name]), joint.velocity)
                    for name, joint in self.joints.items()
                )
            if share < 1:
                limited.add(Limit.SPEED)
            for name, limiter in self._limiters.items():
                limiter.step(
                    None if wanted is None else [wanted[name] * share],
                    period_s,
                    () if wanted is None else [positions[name]],
                    None if wanted is None or highest is None else [highest[name]],
                )
                limited |= limiter.limited
        self.limited = frozenset(limited)
        self.counts.update(limited)
        return {name: limiter.velocity[0] for name, limiter in self._limiters.items()}
