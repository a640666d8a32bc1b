"""
Fine work or travel: a moving arm needs few tokens, fine work needs more.

The speed of the end effector tells the two apart (as in SpecPrune-VLA and SP-VLA). A moving
gripper means fine work at any speed.
"""

import numpy as np

FINE_SPEED_M_S = 0.05
"""Below this speed of the end effector, work is fine unless a recipe sets another limit."""


class PhaseGate:
    """Tells fine work from travel, by comparing each observation with the previous one."""

    def __init__(self, speed_m_s: float, gripper_change: float = 0.05) -> None:
        """
        Set the limits.

        Args:
            speed_m_s: end-effector speed below which work is fine, metres a second.
            gripper_change: change between two observations above which work is fine
                (0 open .. 1 closed).
        """
        self.speed_m_s = speed_m_s
        self.gripper_change = gripper_change
        self.reset()

    def reset(self) -> None:
        """Forget the last observation."""
        self._last: tuple[int, np.ndarray | None, float | None] | None = None

    def fine(
        self, stamp_ns: int, end_effector_m: np.ndarray | None, gripper: float | None
    ) -> bool:
        """
        Whether the arm does fine work; True if that cannot be told.

        Args:
            stamp_ns: time of the observation, nanoseconds.
            end_effector_m: [3], base frame, metres; None if not known.
            gripper: 0 open .. 1 closed; None if not known.
        """
        before, self._last = self._last, (stamp_ns, end_effector_m, gripper)
        if before is None or end_effector_m is None or before[1] is None or stamp_ns <= before[0]:
            return True
        speed = np.linalg.norm(end_effector_m - before[1]) / ((stamp_ns - before[0]) * 1e-9)
        moving = (
            gripper is not None
            and before[2] is not None
            and abs(gripper - before[2]) > self.gripper_change
        )
        return bool(moving or not speed >= self.speed_m_s)
