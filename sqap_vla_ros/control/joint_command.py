"""Joint-space commands, and how the columns of an action row become them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import math

import numpy as np

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.gripper import GripperFilter
from sqap_vla_ros.control.joint_limits import JointLimiter, JointLimits
from sqap_vla_ros.control.limits import MAX_PERIOD_S, MIN_PERIOD_S
from sqap_vla_ros.control.velocity_limiter import Limit
from sqap_vla_ros.errors import UserError

VELOCITY, POSITION = 'joint_velocity.', 'joint_position.'
SETTLE_ROWS = 2.0
"""A position target is approached with this many rows as time constant."""


@dataclass(frozen=True)
class JointCommand:
    """Joint velocities and a gripper value; joints by name, rad/s, or m/s for prismatic ones."""

    velocities: Mapping[str, float]
    positions: Mapping[str, float] = field(default_factory=dict)
    """Where the joints are now: measured, moved on by what was commanded since. rad or m."""
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
        """Whether it moves nothing but, perhaps, the gripper."""
        return not any(self.velocities.values())

    def scaled(self, share: float) -> 'JointCommand':
        """Make the same command with its velocities times `share`."""
        return JointCommand(
            {name: v * share for name, v in self.velocities.items()}, self.positions, self.gripper
        )


class JointMapping:
    """
    Finds joint columns by name: 'joint_velocity.NAME' or 'joint_position.NAME', and 'gripper'.

    All joints are given in one of the two ways. Velocities are rad/s or m/s; positions are
    absolute, rad or m, and become a velocity towards them. Raises UserError for a column that is
    unknown, missing, or has another unit.
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
        units = {spec.units[columns[name]] for name in moving}
        allowed = {'rad', 'm'} if self.positional else {'rad/s', 'm/s'}
        if not units <= allowed:
            raise UserError(
                f'action columns have units {sorted(units)}, expected {sorted(allowed)}'
            )
        self._settle_s = SETTLE_ROWS * spec.step_s

    def command(self, row: np.ndarray, positions: Mapping[str, float]) -> JointCommand:
        """Command for one action row [actions]; not limited yet. NaN where a joint is unknown."""
        values = {name: float(row[index]) for name, index in self._indices.items()}
        if self.positional:
            values = {
                name: (value - positions.get(name, math.nan)) / self._settle_s
                for name, value in values.items()
            }
        gripper = None if self._gripper is None else float(row[self._gripper])
        return JointCommand(values, positions, gripper)


class JointCommandLimiter:
    """`CommandLimiter` in joint space: position, velocity, acceleration and jerk of each joint."""

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
    def counts(self):
        """Commands limited so far, by reason."""
        return self._limiter.counts

    @property
    def limited(self) -> frozenset[Limit]:
        """By what the last command was limited."""
        return self._limiter.limited

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""
        return not any(self._velocities.values())

    @property
    def velocities(self) -> dict[str, float]:
        """Velocities of the last command."""
        return self._velocities

    def reset(self) -> None:
        """Go on from standstill."""
        self._velocities = dict.fromkeys(self._velocities, 0.0)
        self._limiter.reset(self._velocities)

    def limit(
        self, wanted: JointCommand | None, period_s: float, positions: Mapping[str, float]
    ) -> JointCommand:
        """Command to send now; `wanted` None stops. See `JointLimiter.limit`."""
        if MIN_PERIOD_S <= period_s < math.inf:
            value = (
                None
                if wanted is None or wanted.gripper is None or not math.isfinite(wanted.gripper)
                else wanted.gripper
            )
            self._gripper.step(value, min(period_s, MAX_PERIOD_S))
        self._velocities = self._limiter.limit(
            None if wanted is None else wanted.velocities, period_s, positions
        )
        return JointCommand(self._velocities, positions, self._gripper.value)
