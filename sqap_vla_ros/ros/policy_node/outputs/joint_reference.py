"""Position references from commanded velocities, for controllers that take positions."""

from collections.abc import Callable, Mapping
import time

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.limits import MAX_PERIOD_S

MAX_LEAD = 0.1
"""Maximum distance between reference and measurement, rad or m."""
REST_S = 0.5
"""After this time at standstill, motion starts from the measured positions again."""


class JointReference:
    """
    Integrates commanded velocities, starting from the measured positions.

    Adding each command to the measurement instead would let an arm sag under its weight: every
    command would give up the tracking error of the controller.

    Args:
        clock: Steady clock, s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._positions: dict[str, float] | None = None
        self._advanced_s = self._moved_s = -REST_S

    def advance(self, command: JointCommand) -> Mapping[str, float] | None:
        """
        Compute the positions to command now.

        Args:
            command: Velocities and measured positions.

        Returns:
            Joint name to position, rad or m; None while the position of a joint is unknown.
        """
        if not set(command.velocities) <= set(command.positions):
            return None
        now_s = self._clock()
        measured = {name: command.positions[name] for name in command.velocities}
        begins = not command.still and now_s - self._moved_s >= REST_S
        if self._positions is None or begins or now_s - self._advanced_s >= REST_S:
            self._positions = dict(measured)
        else:
            period_s = min(now_s - self._advanced_s, MAX_PERIOD_S)
            self._positions = {
                name: min(
                    max(self._positions[name] + velocity * period_s, measured[name] - MAX_LEAD),
                    measured[name] + MAX_LEAD,
                )
                for name, velocity in command.velocities.items()
            }
        self._advanced_s = now_s
        if not command.still:
            self._moved_s = now_s
        return self._positions
