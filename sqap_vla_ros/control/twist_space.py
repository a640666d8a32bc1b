"""End-effector twists."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.command import Command, CommandMapping
from sqap_vla_ros.control.command_space import CommandSpace, no_faster
from sqap_vla_ros.control.limits import CommandLimiter, MotionLimits
from sqap_vla_ros.control.plausibility import PathTracker, TrackingLimits

POSITION, ORIENTATION = 'position of the end effector', 'orientation of the end effector'
_STILL = (0.0, 0.0, 0.0)


class TwistSpace(CommandSpace):
    """
    End-effector twists within `MotionLimits`.

    The end effector is kept in the workspace wherever it can be: where it was measured, moved on
    by what was commanded since, and where it will be once it has made up for what it missed.

    Args:
        spec: Columns of the action rows.
        limits: Limits of the end effector.

    Raises:
        UserError: The columns are not those of a twist.
    """

    _limiter: CommandLimiter

    def __init__(self, spec: ActionSpec, limits: MotionLimits) -> None:
        self._mapping = CommandMapping(spec)
        super().__init__(CommandLimiter(limits))
        self._rotation: Rotation | None = None
        self._turned = np.zeros(3)
        """Sum of all measured rotations, rotation vector in the base frame, rad."""
        self._follow(limits)

    def _follow(self, limits: MotionLimits) -> None:
        delay_s = limits.tracking_delay_s
        self._position = PathTracker(3, TrackingLimits(limits.tracking_error_m, delay_s))
        self._orientation = PathTracker(3, TrackingLimits(limits.tracking_error_rad, delay_s))

    @property
    def trackers(self) -> Mapping[str, PathTracker]:
        """See `CommandSpace`."""
        return {POSITION: self._position, ORIENTATION: self._orientation}

    def measure_pose(
        self, position_m: Sequence[float], quaternion_xyzw: Sequence[float] | None, stamp_ns: int
    ) -> bool:
        """See `CommandSpace`."""
        if not self._position.measure(position_m, stamp_ns):
            return False
        if quaternion_xyzw is not None:
            rotation = Rotation.from_quat(quaternion_xyzw)
            if self._rotation is not None:
                self._turned = self._turned + (rotation * self._rotation.inv()).as_rotvec()
            self._rotation = rotation
            self._orientation.measure(self._turned.tolist(), stamp_ns)
        return True

    def move(
        self, row: NDArray[np.float64], share: float, period_s: float, now_ns: int
    ) -> Command:
        """See `CommandSpace`."""
        wanted = self._mapping.command(row)
        if share < 1:
            wanted = wanted.scaled(share)
        return self._limit(wanted, period_s, now_ns)

    def stop(self, period_s: float, now_ns: int) -> Command:
        """See `CommandSpace`."""
        return self._limit(None, period_s, now_ns)

    def needs_pose(self, limits: MotionLimits) -> bool:
        """See `CommandSpace`: with a workspace."""
        return limits.workspace_low_m is not None

    def set_limits(self, limits: MotionLimits) -> None:
        """See `CommandSpace`."""
        self._limiter.replace(limits)

    def _begin_in_motion(self, running: bool, commanded_ns: int) -> None:
        measured = [
            tracker.velocity() if tracker.measured_since(commanded_ns) else None
            for tracker in (self._position, self._orientation)
        ]
        if running:
            linear, angular = measured
            self._limiter.reset(linear or _STILL, angular or _STILL)
        else:
            self._limiter.reset(*map(no_faster, self._limiter.velocities, measured))

    def _limit(self, wanted: Command | None, period_s: float, now_ns: int) -> Command:
        lowest, highest = self._position.span(now_ns) or (None, None)
        command = self._limiter.limit(wanted, period_s, lowest, highest)
        self._position.commands.command(command.linear_m_s.tolist(), now_ns)
        self._orientation.commands.command(command.angular_rad_s.tolist(), now_ns)
        return command
