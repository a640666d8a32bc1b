"""A simulated arm and its sensor, with faults, for `fuzz_tracking`."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from random import Random

_STEP_S = 0.005


@dataclass(frozen=True)
class ArmModel:
    """How an arm follows: within what the tracking limits allow, unless it is dead."""

    axes: int
    absolute: bool
    """Whether it is commanded by positions."""
    delay_s: float
    lag_s: float
    """Time constant."""
    gain: float = 1.0
    """Of its velocity."""
    sag: float = 0.0
    """Where it is commanded by positions, how far off them it comes to rest, m or rad."""
    hold_s: float = inf
    """How long it goes on after the last command."""


class SimulatedArm:
    """
    Follows commands with a pure delay and then a first-order lag.

    Args:
        model: How it follows.
        place: [axes], m or rad, where it begins.
    """

    def __init__(self, model: ArmModel, place: Sequence[float]) -> None:
        self.model = model
        self.place = list(place)
        self.velocity = [0.0] * model.axes
        self.time_s = 0.0
        self._commands: deque[tuple[float, list[float], list[float] | None]] = deque()
        self._goal = list(place)

    def command(
        self, velocity: Sequence[float], position: Sequence[float] | None, time_s: float
    ) -> None:
        """Take a command; one without a position is ignored where positions are commanded."""
        if position is not None or not self.model.absolute:
            self._commands.append(
                (
                    time_s + self.model.delay_s,
                    list(velocity),
                    None if position is None else list(position),
                )
            )

    def put(self, place: Sequence[float]) -> None:
        """Put it somewhere, as people do; it stands there until the next command."""
        self.place, self._goal = list(place), list(place)
        self._commands.clear()

    def advance(self, time_s: float, dead: bool = False) -> list[list[float]]:
        """
        Move on.

        Args:
            time_s: Until then.
            dead: Whether it stands still whatever it is told.

        Returns:
            The places on the way.
        """
        places = []
        while self.time_s < time_s - 1e-9:
            end_s = min(self.time_s + _STEP_S, time_s)
            while len(self._commands) > 1 and self._commands[1][0] <= self.time_s + 1e-9:
                self._commands.popleft()
            if self._commands and self._commands[0][0] > self.time_s + 1e-9:
                end_s = min(end_s, self._commands[0][0])
            elif len(self._commands) > 1:
                end_s = min(end_s, self._commands[1][0])
            self._step(end_s - self.time_s, dead)
            self.time_s = end_s
            places.append(self.place)
        return places

    def _step(self, step_s: float, dead: bool) -> None:
        model, before = self.model, self.place
        begun = self._commands and self._commands[0][0] <= self.time_s + 1e-9
        since_s = self.time_s - self._commands[0][0] if begun else 0.0
        share = 1.0 if not model.lag_s else 1 - exp(-step_s / model.lag_s)
        wanted = self._commands[0][1] if begun else [0.0] * model.axes
        if model.absolute:
            if begun and self._commands[0][2] is not None:
                moved_s = min(since_s + step_s, model.hold_s)
                self._goal = [p + v * moved_s for p, v in zip(self._commands[0][2], wanted)]
            if not dead:
                self.place = [
                    at + (goal + model.sag - at) * share for at, goal in zip(before, self._goal)
                ]
            self.velocity = [(b - a) / step_s for a, b in zip(before, self.place)]
            return
        if since_s >= model.hold_s:
            wanted = [0.0] * model.axes
        if dead:
            self.velocity = [0.0] * model.axes
            return
        self.velocity = [v + (model.gain * u - v) * share for v, u in zip(self.velocity, wanted)]
        self.place = [at + v * step_s for at, v in zip(before, self.velocity)]


@dataclass(frozen=True)
class SensorModel:
    """How an arm is measured."""

    period_s: float
    latency_s: float
    """From the stamp to the arrival."""
    late_s: float = 0.0
    """How late the stamp is."""
    noise: float = 0.0
    """Standard deviation, m or rad."""


class SimulatedSensor:
    """
    Measures a place now and then, and hands it over later.

    Args:
        model: When and how well.
        rng: Of the noise.
    """

    def __init__(self, model: SensorModel, rng: Random) -> None:
        self.model, self._rng = model, rng
        self.next_s = 0.0
        """When it measures next."""
        self.frozen = False
        """Whether it repeats the last measurement with new stamps."""
        self.offset: list[float] | None = None
        """What it is wrong by."""
        self.clock_s = 0.0
        """Clock of its stamps minus the time of the arm."""
        self.zeros = False
        """Whether a second publisher says that everything is zero."""
        self._last: list[float] | None = None
        self._sent: deque[tuple[float, float, list[float]]] = deque()

    def measure(self, place: Sequence[float]) -> None:
        """Measure, at `next_s`."""
        if not self.frozen or self._last is None:
            self._last = [at + self._rng.gauss(0, self.model.noise) for at in place]
            if self.offset is not None:
                self._last = [at + off for at, off in zip(self._last, self.offset)]
        arrival_s = self.next_s + self.model.late_s + self.model.latency_s
        stamp_s = self.next_s + self.model.late_s + self.clock_s
        self._sent.append((arrival_s, stamp_s, self._last))
        if self.zeros:
            self._sent.append((arrival_s, stamp_s + 1e-3, [0.0] * len(place)))
        self.next_s += self.model.period_s

    def arrived(self, time_s: float) -> list[tuple[float, list[float]]]:
        """Hand over what has arrived: stamps, s, and places."""
        found = []
        while self._sent and self._sent[0][0] <= time_s:
            found.append(self._sent.popleft()[1:])
        return found
