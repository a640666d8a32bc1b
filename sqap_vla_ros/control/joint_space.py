"""Joint velocities, and the positions that they lead to."""

from collections.abc import Mapping
import math

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.control.command_space import CommandSpace, no_faster
from sqap_vla_ros.control.joint_command import JointCommand, JointCommandLimiter, JointMapping
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import MAX_PERIOD_S, MotionLimits
from sqap_vla_ros.control.plausibility import PathTracker

MEASURED_S = 0.4
"""Time constant with which joints are believed to be where they are measured while they approach a
position, seconds: longer than the lag of a servo, shorter than a motion."""


class JointSpace(CommandSpace):
    """
    Joint velocities within the limits of each joint; no workspace is kept.

    Each joint is kept in its range wherever it can be: where it was measured, moved on by what was
    commanded since, and where it will be once it has made up for what it missed.

    Args:
        spec: Columns of the action rows.
        joints: Joint name to its limits.
        gripper_debounce_s: See `MotionLimits`.
        gripper_min_change: See `MotionLimits`.

    Raises:
        UserError: The columns do not command exactly these joints.
    """

    _limiter: JointCommandLimiter

    def __init__(
        self,
        spec: ActionSpec,
        joints: Mapping[str, JointLimits],
        gripper_debounce_s: float,
        gripper_min_change: float,
    ) -> None:
        self._mapping = JointMapping(spec, joints)
        super().__init__(JointCommandLimiter(joints, gripper_debounce_s, gripper_min_change))
        self._trackers = {name: PathTracker(1, limits.tracking) for name, limits in joints.items()}
        self._unknown: set[str] = set()
        """Joints that the last message lacked."""
        self._followed: dict[str, float] = {}
        """See `_follow`; empty while a stop is commanded."""
        self._withdrawn = False

    @property
    def trackers(self) -> Mapping[str, PathTracker]:
        """See `CommandSpace`."""
        return self._trackers

    def measure_joints(self, positions: Mapping[str, float], stamp_ns: int) -> bool:
        """See `CommandSpace`."""
        self._unknown = set(self._trackers) - set(positions)
        new = [
            tracker.measure([positions[name]], stamp_ns)
            for name, tracker in self._trackers.items()
            if name in positions
        ]
        return any(new)

    def move(
        self, row: NDArray[np.float64], share: float, period_s: float, now_ns: int
    ) -> JointCommand:
        """See `CommandSpace`."""
        wanted = self._mapping.command(row, self._follow(period_s, now_ns))
        if share < 1:
            wanted = wanted.scaled(share)
        return self._limit(wanted, period_s, now_ns)

    def stop(self, period_s: float, now_ns: int) -> JointCommand:
        """See `CommandSpace`."""
        self._followed = {}
        return self._limit(None, period_s, now_ns)

    def needs_pose(self, limits: MotionLimits) -> bool:
        """See `CommandSpace`: never, as no workspace is kept."""
        return False

    def set_limits(self, limits: MotionLimits) -> None:
        """See `CommandSpace`: does nothing, the limits of the joints are fixed."""

    def restart(self) -> None:
        """See `CommandSpace`."""
        super().restart()
        self._followed = {}
        self._withdrawn = False

    def withdraw(self) -> None:
        """See `CommandSpace`."""
        self._withdrawn = True

    @property
    def lost(self) -> bool:
        """See `CommandSpace`: also after the positions were withdrawn."""
        return self._withdrawn or super().lost

    def _begin_in_motion(self, running: bool, commanded_ns: int) -> None:
        self._followed, velocities = {}, {}
        for name, tracker in self._trackers.items():
            measured = tracker.velocity() if tracker.measured_since(commanded_ns) else None
            if running:
                velocities[name] = (measured or [0.0])[0]
            elif tracker.limits.absolute:
                velocities[name] = 0.0  # the robot has stopped at the last position
            else:
                velocities[name] = no_faster([self._limiter.velocities[name]], measured)[0]
        self._limiter.reset(velocities)

    def _limit(self, wanted: JointCommand | None, period_s: float, now_ns: int) -> JointCommand:
        spans = {
            name: tracker.span(now_ns)
            for name, tracker in self._trackers.items()
            if name not in self._unknown
        }
        velocities, gripper = self._limiter.limit(
            wanted,
            period_s,
            {name: span[0][0] for name, span in spans.items() if span},
            {name: span[1][0] for name, span in spans.items() if span},
        )
        references = {}
        for name, tracker in self._trackers.items():
            reference = tracker.reference(now_ns)
            if reference is not None:
                references[name] = reference[0]
            tracker.commands.command([velocities[name]], now_ns)
        if self._withdrawn or len(references) < len(velocities):
            references = {}
        return JointCommand(velocities, references, gripper)

    def _follow(self, period_s: float, now_ns: int) -> dict[str, float]:
        """
        Estimate where the joints will be once they have done what was commanded so far.

        A servo lags by up to 0.1 s. With the measured position in the place of this one, an
        approach overshoots, and as fast as the rows of a policy at 30 Hz it never settles. Joints
        that are commanded by positions go where the commands lead. For others the estimate moves
        with the commands and is drawn to the measured position slowly.

        Args:
            period_s: Time since the last command, seconds.
            now_ns: Now.

        Returns:
            Joint name to position, rad or m.
        """
        period_s = min(max(period_s, 0.0), MAX_PERIOD_S) if period_s < math.inf else 0.0
        share = period_s / (MEASURED_S + period_s)
        followed: dict[str, float] = {}
        for name, tracker in self._trackers.items():
            place, reference = tracker.place(now_ns), tracker.reference(now_ns)
            if place is None or reference is None:
                continue
            if tracker.limits.absolute:
                followed[name] = reference[0]
                continue
            moved = self._followed.get(name, place[0])
            moved += self._limiter.velocities[name] * period_s
            followed[name] = moved + share * (place[0] - moved)
        self._followed = followed
        return followed
