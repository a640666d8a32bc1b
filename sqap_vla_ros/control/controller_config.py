"""How a controller reacts, and what it tells about itself."""

from dataclasses import dataclass, field

from sqap_vla_ros.control.chunk_executor import ExecutorConfig, Offer
from sqap_vla_ros.control.limits import MAX_PERIOD_S, require_positive
from sqap_vla_ros.control.state_machine import State
from sqap_vla_ros.control.velocity_limiter import Limit

POSE = 'pose'
"""Name of the input that `Controller.pose` feeds."""


@dataclass(frozen=True)
class ControllerConfig:
    """How the controller reacts. Raises ValueError naming the field that is wrong."""

    command_period_s: float = 0.02
    """Nominal time between two ticks."""
    input_timeouts_s: dict[str, float] = field(default_factory=lambda: {'camera': 0.5, POSE: 0.5})
    """Input name to the maximum time between two arrivals, on the steady clock."""
    executor: ExecutorConfig = ExecutorConfig()
    ramp_in_s: float = 0.5
    """Time over which the velocity grows from zero after a start or resume."""
    underrun_timeout_s: float = 0.5
    """Time without an action after which it holds; it decelerates at once."""
    first_chunk_timeout_s: float = 5.0
    """The same after a start or resume."""
    max_bad_chunks: int = 3
    """Number of consecutive unusable chunks that lead to a hold."""
    saturation_timeout_s: float | None = 3.0
    """Time limited by speed or workspace without a break that leads to a hold; None: never."""
    frozen_images: int = 10
    """Number of consecutive equal images that count as a frozen camera."""
    hold_on_frozen_camera: bool = False
    gap_s: float = MAX_PERIOD_S
    """Time between two ticks after which motion begins anew, at the measured velocity: the robot
    may have executed all it had. Half of the horizon of its trajectories."""
    watch_tracking: bool = True
    """Whether it holds where the robot does not follow; False: in a dry run nothing follows."""
    gap_patience_s: float = 0.3
    """Time to wait for a measurement after a gap; without one it holds."""
    clock_jump_s: float = 0.2
    """See `ClockJumpDetector`."""
    clock_pause_s: float = 0.5
    """See `ClockJumpDetector`."""

    def __post_init__(self) -> None:
        for name in (
            'command_period_s',
            'ramp_in_s',
            'underrun_timeout_s',
            'first_chunk_timeout_s',
            'gap_s',
            'gap_patience_s',
            'clock_jump_s',
            'clock_pause_s',
        ):
            require_positive(name, getattr(self, name))
        if self.saturation_timeout_s is not None:
            require_positive('saturation_timeout_s', self.saturation_timeout_s)
        for name in ('max_bad_chunks', 'frozen_images'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, expected 1 or more')
        for name, timeout_s in self.input_timeouts_s.items():
            require_positive(f'input_timeouts_s[{name!r}]', timeout_s)


@dataclass(frozen=True)
class ControllerStatus:
    """A snapshot for diagnostics."""

    state: State
    reason: str
    """Why the state is what it is."""
    generation: int
    """Number of flushes; see `Controller.generation`."""
    queue_depth: int
    """Rows still to be executed."""
    delay_s: float | None
    """High percentile of the recent delays from observation to chunk; None: not known yet."""
    input_ages_s: dict[str, float | None]
    """Input name to the time since it arrived, on the steady clock; None: never arrived."""
    frozen_cameras: tuple[str, ...]
    offers: dict[Offer, int]
    """Number of chunks so far, by outcome."""
    limits: dict[Limit, int]
    """Number of limited commands so far, by limit."""
    limited: frozenset[Limit]
    """Limits that changed the last command."""
