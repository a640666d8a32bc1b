"""Workspace, speed, acceleration and jerk limits of end-effector twists."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.gripper import GripperFilter
from sqap_vla_ros.control.velocity_limiter import GroupLimits, Limit, VelocityLimiter

MAX_PERIOD_S = 0.1
"""A longer period allows no more change than this one."""
MIN_PERIOD_S = 1e-4
"""Within a shorter period the last command is repeated."""


@dataclass(frozen=True)
class MotionLimits:
    """
    Limits of every command, in the base frame; speeds and accelerations are Euclidean norms.

    A stop (hold, emergency stop, nothing left to execute, edge of the workspace) has limits of its
    own, at least as high as those of motion. The defaults suit the simulated arm; take those of a
    robot from its data sheet. Whatever needs the
    defaults reads them from here.

    Raises:
        ValueError: A limit is wrong; the message names the field.
    """

    workspace_low_m: tuple[float, float, float] | None = (-0.35, 0.38, 0.01)
    """Lowest end-effector position; None: no workspace, then `workspace_high_m` is None too."""
    workspace_high_m: tuple[float, float, float] | None = (0.35, 0.95, 0.40)
    workspace_margin_m: float = 0.003
    """Distance from the edge of the workspace at which motion towards it is planned to end."""
    linear_speed_m_s: float = 0.25
    linear_acceleration_m_s2: float = 1.5
    linear_jerk_m_s3: float | None = 30.0
    """None: not limited."""
    angular_speed_rad_s: float = 0.8
    angular_acceleration_rad_s2: float = 4.0
    angular_jerk_rad_s3: float | None = 80.0
    """None: not limited."""
    stop_deceleration_m_s2: float = 2.0
    stop_jerk_m_s3: float | None = 60.0
    angular_stop_deceleration_rad_s2: float = 6.0
    angular_stop_jerk_rad_s3: float | None = 160.0
    gripper_debounce_s: float = 0.1
    """How long another gripper value must be wanted before it is commanded."""
    gripper_min_change: float = 0.05
    """Smaller changes of the gripper value are ignored."""
    tracking_error_m: float = 0.05
    """Largest distance of the measured position from where the commands lead."""
    tracking_error_rad: float = 0.3
    """The same for the orientation."""
    tracking_delay_s: float = 0.1
    """How long the arm may lag: errors grow by this time times the commanded speed."""

    def __post_init__(self) -> None:
        for name in (
            'linear_speed_m_s',
            'linear_acceleration_m_s2',
            'angular_speed_rad_s',
            'angular_acceleration_rad_s2',
            'stop_deceleration_m_s2',
            'angular_stop_deceleration_rad_s2',
        ):
            require_positive(name, getattr(self, name))
        for name in (
            'linear_jerk_m_s3',
            'angular_jerk_rad_s3',
            'stop_jerk_m_s3',
            'angular_stop_jerk_rad_s3',
        ):
            if getattr(self, name) is not None:
                require_positive(name, getattr(self, name))
        for name in ('workspace_margin_m', 'gripper_debounce_s', 'gripper_min_change'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f'{name} is {value}, expected a finite number, not negative')
        for stop, motion in (
            ('stop_deceleration_m_s2', 'linear_acceleration_m_s2'),
            ('stop_jerk_m_s3', 'linear_jerk_m_s3'),
            ('angular_stop_deceleration_rad_s2', 'angular_acceleration_rad_s2'),
            ('angular_stop_jerk_rad_s3', 'angular_jerk_rad_s3'),
        ):
            if or_infinite(getattr(self, stop)) < or_infinite(getattr(self, motion)):
                raise ValueError(
                    f'{stop} is {getattr(self, stop)}, expected at least {motion}, '
                    f'{getattr(self, motion)}'
                )
        self._check_workspace()

    def _check_workspace(self) -> None:
        if (self.workspace_low_m is None) != (self.workspace_high_m is None):
            raise ValueError('workspace_low_m and workspace_high_m must be given together')
        if self.workspace_low_m is None or self.workspace_high_m is None:
            return
        for name in ('workspace_low_m', 'workspace_high_m'):
            value = tuple(float(part) for part in getattr(self, name))
            if len(value) != 3 or not all(math.isfinite(part) for part in value):
                raise ValueError(f'{name} is {value}, expected three finite numbers')
            object.__setattr__(self, name, value)
        for low, high in zip(self.workspace_low_m, self.workspace_high_m):
            if not low + 2 * self.workspace_margin_m < high:
                raise ValueError(
                    'workspace_low_m must be below workspace_high_m on every axis, '
                    'by more than two margins'
                )


class CommandLimiter:
    """
    Limits twist commands; not thread-safe.

    In this order: finite, workspace, speed, acceleration, jerk, gripper. The edge of the workspace
    removes the velocity towards it, so that motion slides along it; the other limits keep the
    direction. After every command the robot can still be stopped within the workspace. If the
    measured position says that it cannot, the robot is stopped. Motion back inside is always
    allowed.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.counts: Counter[Limit] = Counter()
        """Number of limited commands so far, by limit."""
        self.limited: frozenset[Limit] = frozenset()
        """Limits that changed the last command."""
        self._gripper = GripperFilter(limits.gripper_debounce_s, limits.gripper_min_change)
        self.replace(limits)

    def replace(self, limits: MotionLimits) -> None:
        """
        Replace the limits and continue from standstill; the gripper value is kept.

        Args:
            limits: The new limits.
        """
        self.limits = limits
        self._linear = VelocityLimiter(
            _group(
                limits.linear_speed_m_s,
                limits.linear_acceleration_m_s2,
                limits.linear_jerk_m_s3,
                limits.stop_deceleration_m_s2,
                limits.stop_jerk_m_s3,
                limits.workspace_low_m,
                limits.workspace_high_m,
                limits.workspace_margin_m,
            )
        )
        self._angular = VelocityLimiter(
            _group(
                limits.angular_speed_rad_s,
                limits.angular_acceleration_rad_s2,
                limits.angular_jerk_rad_s3,
                limits.angular_stop_deceleration_rad_s2,
                limits.angular_stop_jerk_rad_s3,
            )
        )
        gripper = self._gripper.value
        self._gripper = GripperFilter(limits.gripper_debounce_s, limits.gripper_min_change)
        self._gripper.value = gripper

    @property
    def linear_m_s(self) -> NDArray[np.float64]:
        """Linear velocity of the last command, float64 [3]."""
        return np.array(self._linear.velocity)

    @property
    def velocities(self) -> tuple[list[float], list[float]]:
        """Linear and angular velocity of the last command, [3] each."""
        return self._linear.velocity, self._angular.velocity

    @property
    def stopping(self) -> bool:
        """Whether the last command was under the stop's limits rather than the motion's."""
        return self._linear.stopping or self._angular.stopping

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds."""
        return max(self._linear.stop_time_s, self._angular.stop_time_s)

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""
        return not (any(self._linear.velocity) or any(self._angular.velocity))

    def reset(
        self,
        linear_m_s: Sequence[float] = (0.0, 0.0, 0.0),
        angular_rad_s: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        """
        Continue from the given velocity instead of the last command.

        Args:
            linear_m_s: [3], base frame, m/s.
            angular_rad_s: [3], base frame, rad/s.

        Raises:
            ValueError: A velocity does not have three finite values.
        """
        for name, velocity in (('linear_m_s', linear_m_s), ('angular_rad_s', angular_rad_s)):
            if len(velocity) != 3 or not all(map(math.isfinite, velocity)):
                raise ValueError(f'{name} is {velocity}, expected three finite numbers')
        self._linear.reset(linear_m_s)
        self._angular.reset(angular_rad_s)

    def limit(
        self,
        wanted: Command | None,
        period_s: float,
        position_m: Sequence[float] | NDArray[np.float64] | None = None,
        highest_m: Sequence[float] | None = None,
    ) -> Command:
        """
        Compute the command to send now.

        Args:
            wanted: What the policy wants; None stops along the stop profile.
            period_s: Time since the last call, seconds. Below MIN_PERIOD_S, or if it is not
                finite, the last command is repeated.
            position_m: Measured end effector, [3] in the base frame, metres. With a workspace, a
                position that is missing or not finite stops the robot.
            highest_m: The end effector is anywhere between `position_m` and here, on each axis;
                None: it is exactly there.

        Returns:
            The limited command.
        """
        limited: set[Limit] = set()
        if MIN_PERIOD_S <= period_s < math.inf:
            period_s = min(period_s, MAX_PERIOD_S)
            if wanted is not None and not wanted.finite:
                limited.add(Limit.NON_FINITE)
                wanted = None
            if wanted is not None and not self._position_known(position_m):
                limited.add(Limit.POSITION_UNKNOWN)
                wanted = None
            limited |= self._step(wanted, period_s, position_m, highest_m)
        self.limited = frozenset(limited)
        self.counts.update(limited)
        return Command(self._linear.velocity, self._angular.velocity, self._gripper.value)

    def _position_known(self, position_m: Sequence[float] | NDArray[np.float64] | None) -> bool:
        if self.limits.workspace_low_m is None:
            return True
        return (
            position_m is not None and len(position_m) == 3 and all(map(math.isfinite, position_m))
        )

    def _step(
        self,
        wanted: Command | None,
        period_s: float,
        position_m: Sequence[float] | NDArray[np.float64] | None,
        highest_m: Sequence[float] | None,
    ) -> set[Limit]:
        if wanted is None:
            self._linear.step(None, period_s, ())
            self._angular.step(None, period_s, ())
            self._gripper.step(None, period_s)
            return set()
        position = () if position_m is None else [float(axis) for axis in position_m]
        self._linear.step(wanted.linear_m_s.tolist(), period_s, position, highest_m)
        self._angular.step(wanted.angular_rad_s.tolist(), period_s, ())
        limited = self._linear.limited | self._angular.limited
        if self._gripper.step(wanted.gripper, period_s) != wanted.gripper is not None:
            limited.add(Limit.GRIPPER)
        return limited


def _group(
    speed: float,
    acceleration: float,
    jerk: float | None,
    stop_deceleration: float,
    stop_jerk: float | None,
    low: tuple[float, ...] | None = None,
    high: tuple[float, ...] | None = None,
    margin: float = 0.0,
) -> GroupLimits:
    return GroupLimits(
        speed=speed,
        acceleration=acceleration,
        jerk=or_infinite(jerk),
        stop_deceleration=stop_deceleration,
        stop_jerk=or_infinite(stop_jerk),
        low=low or (-math.inf,) * 3,
        high=high or (math.inf,) * 3,
        margin=margin,
    )


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f'{name} is {value}, expected a finite number above zero')


def or_infinite(value: float | None) -> float:
    """Convert a limit to a number; None, no limit, becomes infinity."""
    return math.inf if value is None else value
