"""Joint velocity commands, and the mapping from the columns of an action row to them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
import math

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.command import check_converted
from sqap_vla_ros.control.gripper import GripperFilter
from sqap_vla_ros.control.joint_limits import JointLimiter, JointLimits
from sqap_vla_ros.control.limits import MAX_PERIOD_S, MIN_PERIOD_S
from sqap_vla_ros.control.velocity_limiter import Limit
from sqap_vla_ros.errors import UserError

VELOCITY, POSITION = 'joint_velocity.', 'joint_position.'
SETTLE_ROWS = 2.0
"""Time constant, in rows, with which a position target is approached."""
BRAKING_SHARE = 0.5
"""Share of a joint's acceleration limit with which it is planned to stop at a position."""


@dataclass(frozen=True)
class JointCommand:
    """Joint velocities and a gripper value."""

    velocities: Mapping[str, float]
    """Joint name to velocity: rad/s, or m/s for a prismatic joint."""
    positions: Mapping[str, float] = field(default_factory=dict)
    """Joint name to position now, rad or m: where the commands lead from the measured position at
    the last start; no later measurement changes it. Empty before the first one, and after an error
    until the next start: then no positions may be commanded."""
    gripper: float | None = None
    """0 open .. 1 closed; None leaves the gripper as it is."""

    @property
    def finite(self) -> bool:
        """Whether every value is finite."""
        return all(map(math.isfinite, self.velocities.values())) and (
            self.gripper is None or math.isfinite(self.gripper)
        )

    @property
    def still(self) -> bool:
        """Whether all velocities are zero; the gripper may move."""
        return not any(self.velocities.values())

    @property
    def fastest(self) -> float:
        """Largest velocity, rad/s or m/s."""
        return max(map(abs, self.velocities.values()), default=0.0)

    def scaled(self, share: float) -> 'JointCommand':
        """Return the same command with its velocities multiplied by `share`."""
        return JointCommand(
            {name: v * share for name, v in self.velocities.items()}, self.positions, self.gripper
        )


class JointMapping:
    """
    Maps action rows to joint commands; finds the columns by name, never by position.

    Names: 'joint_velocity.NAME' or 'joint_position.NAME' for all joints alike, and 'gripper'.
    Velocities are rad/s or m/s. Positions are absolute, rad or m, and become a velocity towards
    the position.

    Args:
        spec: Columns of the action rows.
        joints: Joint name to its limits; the columns must command exactly these joints.

    Raises:
        UserError: A column is unknown, repeated or missing, or has another unit.
    """

    def __init__(self, spec: ActionSpec, joints: Mapping[str, JointLimits]) -> None:
        columns = {name: index for index, name in enumerate(spec.names)}
        self._gripper = columns.get('gripper')
        moving = [name for name in spec.names if name != 'gripper']
        if len(columns) != len(spec.names):
            raise UserError(f'action columns {list(spec.names)}: one appears more than once')
        kinds = {kind for kind in (VELOCITY, POSITION) for name in moving if name.startswith(kind)}
        if len(kinds) != 1 or not all(name.startswith(tuple(kinds)) for name in moving):
            raise UserError(
                f'action columns {list(spec.names)} are no joint commands: with this profile '
                f"they must all be '{VELOCITY}NAME' or all '{POSITION}NAME', and 'gripper'; for "
                'a policy that gives end-effector twists take a profile with action.space: twist'
            )
        kind = kinds.pop()
        self.positional = kind == POSITION
        """Whether the actions are positions."""
        self._indices = {name.removeprefix(kind): columns[name] for name in moving}
        if set(self._indices) != set(joints):
            raise UserError(
                f'action columns command the joints {sorted(self._indices)}, the '
                f'profile has {sorted(joints)}; set joint_states.policy_names'
            )
        for column in spec.columns:
            check_converted(column)
        units = {spec.units[columns[name]] for name in moving}
        allowed = {'rad', 'm'} if self.positional else {'rad/s', 'm/s'}
        if not units <= allowed:
            raise UserError(
                f'action columns have units {sorted(units)}, expected {sorted(allowed)}'
            )
        self._settle_s = SETTLE_ROWS * spec.step_s
        self._accelerations = {name: limits.acceleration for name, limits in joints.items()}
        self._continuous = {name for name, limits in joints.items() if limits.continuous}

    def command(self, row: NDArray[np.float64], positions: Mapping[str, float]) -> JointCommand:
        """
        Convert an action row to a command, without limits.

        Args:
            row: [actions], in the units of the spec.
            positions: Joint name to position that the commands so far lead to, rad or m.

        Returns:
            The command. With position actions, the velocity of a joint whose position is unknown
            is NaN. A continuous joint goes the short way round.
        """
        values = {name: float(row[index]) for name, index in self._indices.items()}
        if self.positional:
            values = {
                name: self._approach(name, value - positions.get(name, math.nan))
                for name, value in values.items()
            }
        gripper = None if self._gripper is None else float(row[self._gripper])
        return JointCommand(values, gripper=gripper)

    def _approach(self, name: str, distance: float) -> float:
        """Velocity towards a position, from which the joint can brake until it is there."""
        if name in self._continuous and math.isfinite(distance):
            distance = math.remainder(distance, math.tau)
        braking = math.sqrt(2 * BRAKING_SHARE * self._accelerations[name] * abs(distance))
        return max(min(distance / self._settle_s, braking), -braking)


class JointCommandLimiter:
    """
    Limits joint commands; not thread-safe. The joint-space counterpart of `CommandLimiter`.

    `JointLimiter` limits the velocities, `GripperFilter` debounces the gripper.

    Args:
        joints: Joint name to its limits.
        gripper_debounce_s: See `MotionLimits`.
        gripper_min_change: See `MotionLimits`.
    """

    def __init__(
        self,
        joints: Mapping[str, JointLimits],
        gripper_debounce_s: float,
        gripper_min_change: float,
    ) -> None:
        self._limiter = JointLimiter(joints)
        self._gripper = GripperFilter(gripper_debounce_s, gripper_min_change)
        self._velocities = dict.fromkeys(joints, 0.0)

    @property
    def counts(self) -> Counter[Limit]:
        """Number of limited commands so far, by limit."""
        return self._limiter.counts

    @property
    def limited(self) -> frozenset[Limit]:
        """Limits that changed the last command."""
        return self._limiter.limited

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds."""
        return self._limiter.stop_time_s

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""
        return not any(self._velocities.values())

    @property
    def velocities(self) -> dict[str, float]:
        """Joint name to velocity in the last command."""
        return self._velocities

    def reset(self, velocities: Mapping[str, float] | None = None) -> None:
        """
        Continue from the given velocities instead of the last command.

        Args:
            velocities: Joint name to velocity, rad/s or m/s; None: standstill.
        """
        self._velocities = dict(velocities or dict.fromkeys(self._velocities, 0.0))
        self._limiter.reset(self._velocities)

    def limit(
        self,
        wanted: JointCommand | None,
        period_s: float,
        positions: Mapping[str, float],
        highest: Mapping[str, float] | None = None,
    ) -> tuple[dict[str, float], float | None]:
        """
        Compute the command to send now.

        Args:
            wanted: What the policy wants; None stops along the stop profile.
            period_s: Time since the last call, seconds; see `JointLimiter.limit`.
            positions: Joint name to position now, rad or m.
            highest: See `JointLimiter.limit`.

        Returns:
            Joint name to velocity, rad/s or m/s, and the value of the gripper, None to leave it.
        """
        if MIN_PERIOD_S <= period_s < math.inf:
            value = (
                None
                if wanted is None or wanted.gripper is None or not math.isfinite(wanted.gripper)
                else wanted.gripper
            )
            self._gripper.step(value, min(period_s, MAX_PERIOD_S))
        self._velocities = self._limiter.limit(
            None if wanted is None else wanted.velocities, period_s, positions, highest
        )
        return self._velocities, self._gripper.value
