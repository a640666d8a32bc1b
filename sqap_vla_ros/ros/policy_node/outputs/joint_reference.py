"""Positions to command, out of velocities: for controllers that want positions."""

from collections.abc import Callable, Mapping
import time

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.limits import MAX_PERIOD_S

MAX_LEAD = 0.1
"""Never further ahead of the measurement, rad or m."""
REST_S = 0.5
"""After so long at standstill motion begins from the measured positions again."""


class JointReference:
    """
    Integrates commanded velocities from the measured positions on.

    Adding to the measurement each time would let an arm sag under its weight: every command would
    give up what the controller still lacks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._positions: dict[str, float] | None = None
        self._advanced_s = self._moved_s = -REST_S

    def advance(self, command: JointCommand) -> Mapping[str, float] | None:
        """Positions to command now; None while a joint's position is unknown."""
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
