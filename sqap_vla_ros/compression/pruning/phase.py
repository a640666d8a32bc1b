"""
How many tokens this moment needs: few while the arm travels, more while it does fine work.

Speed of the end effector tells the two apart (as in SpecPrune-VLA and SP-VLA), and a gripper that
moves is fine work at any speed.
"""

import numpy as np

FINE_SPEED_M_S = 0.05
"""Below this speed of the end effector, work is fine unless a recipe says otherwise."""


class PhaseGate:
    """Judges each observation by the one before it."""

    def __init__(self, speed_m_s: float, gripper_change: float = 0.05) -> None:
        """
        Set the limits.

        speed_m_s: below it, work is fine; gripper_change: between observations, 0 open ..
        1 closed; above it, work is fine.
        """
        self.speed_m_s = speed_m_s
        self.gripper_change = gripper_change
        self.reset()

    def reset(self) -> None:
        """Forget the last observation."""
        self._last = None

    def fine(
        self, stamp_ns: int, end_effector_m: np.ndarray | None, gripper: float | None
    ) -> bool:
        """
        Whether the arm does fine work; True where that cannot be told.

        end_effector_m: [3], base frame, or None; gripper: 0 open .. 1 closed, or None.
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
