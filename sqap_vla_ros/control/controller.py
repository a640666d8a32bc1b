"""Everything between a policy's chunks and the commands on the wire, without ROS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import math
from threading import RLock

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.chunk_executor import ChunkExecutor, ExecutorConfig, Offer
from sqap_vla_ros.control.command import Command, CommandMapping
from sqap_vla_ros.control.joint_command import JointCommand, JointCommandLimiter, JointMapping
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import CommandLimiter, MotionLimits, require_positive
from sqap_vla_ros.control.state_machine import Event, State, StateMachine, Transition, TRANSITIONS
from sqap_vla_ros.control.velocity_limiter import Limit
from sqap_vla_ros.control.watchdog import ClockJumpDetector, FrozenCameraDetector, InputWatchdog

POSE = 'pose'
"""Name of the input that `Controller.pose` feeds."""
VELOCITY_TIMEOUT_S = 0.2
"""An older measured velocity counts as none."""
_SATURATION = {Limit.SPEED, Limit.WORKSPACE}


@dataclass(frozen=True)
class ControllerConfig:
    """How the controller reacts. Raises ValueError naming the field that is wrong."""

    command_period_s: float = 0.02
    """Nominal time between two ticks."""
    input_timeouts_s: dict[str, float] = field(default_factory=lambda: {'camera': 0.5, POSE: 0.5})
    """Input name to the longest time between two arrivals, on the steady clock."""
    executor: ExecutorConfig = ExecutorConfig()
    ramp_in_s: float = 0.5
    """Time over which velocity grows from nothing after a start or resume."""
    underrun_timeout_s: float = 0.5
    """With nothing to execute it decelerates at once, and holds after this long."""
    first_chunk_timeout_s: float = 5.0
    """The same after a start or resume."""
    max_bad_chunks: int = 3
    """So many unusable chunks in a row lead to a hold."""
    saturation_timeout_s: float | None = 3.0
    """Being limited in speed or by the workspace for so long leads to a hold; None: never."""
    frozen_images: int = 10
    """So many equal images in a row count as a frozen camera."""
    hold_on_frozen_camera: bool = False
    clock_jump_s: float = 0.2
    clock_pause_s: float = 0.5

    def __post_init__(self):
        for name in (
            'command_period_s',
            'ramp_in_s',
            'underrun_timeout_s',
            'first_chunk_timeout_s',
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
    generation: int
    queue_depth: int
    """Rows still to be executed."""
    delay_s: float | None
    """From observation to chunk: high percentile of the last ones."""
    input_ages_s: dict[str, float | None]
    """Steady clock; None: never arrived."""
    frozen_cameras: tuple[str, ...]
    offers: dict[Offer, int]
    """What became of all chunks so far."""
    limits: dict[Limit, int]
    """Commands limited so far, by reason."""
    limited: frozenset[Limit]
    """By what the last command was limited."""


class Controller:
    """
    Chunks in, commands out; thread-safe, and no call waits for anything but its own lock.

    `clock` gives the steady time in nanoseconds: every deadline is on it. Stamps of observations
    and `tick`'s `now_ns` are on the observations' clock, which may be simulated and may jump.

    Only RUNNING executes chunks. HOLDING and ESTOPPED emit the stop profile and then standstill,
    forever, so that a final hold is on the wire. UNREADY and READY finish a stop in progress and
    then emit nothing. Every way into or out of RUNNING flushes the chunks.

    joints: for a policy that commands joints; then its limits count instead of the twist's, no
    workspace is kept, and commands are `JointCommand`s.

    Raises UserError for a spec that is no twist (or commands other joints), ValueError for limits
    that need a pose without a timeout for it.
    """

    def __init__(
        self,
        spec: ActionSpec,
        limits: MotionLimits,
        config: ControllerConfig,
        clock: Callable[[], int],
        joints: Mapping[str, JointLimits] | None = None,
    ) -> None:
        _check(limits, config)
        self.spec, self.config = spec, config
        self._clock = clock
        self._lock = RLock()
        self._joint_space = joints is not None
        if self._joint_space:
            self._mapping = JointMapping(spec, joints)
            self._limiter = JointCommandLimiter(
                joints, limits.gripper_debounce_s, limits.gripper_min_change
            )
        else:
            self._mapping, self._limiter = CommandMapping(spec), CommandLimiter(limits)
        self._executor = ChunkExecutor(config.executor, spec)
        self._watchdog = InputWatchdog(config.input_timeouts_s)
        self._cameras: dict[str, FrozenCameraDetector] = {}
        self._machine = StateMachine()
        self._clock_jumps = ClockJumpDetector(config.clock_jump_s, config.clock_pause_s)
        self._position_m = None
        self._joints: Mapping[str, float] = {}
        self._joints_ns = 0
        self._velocity: tuple[np.ndarray, np.ndarray, int] | None = None
        self._ticked_ns: int | None = None
        self._on_wire = False
        self._begin_run(clock())

    # Inputs

    def image(self, name: str, data, stamp_ns: int) -> None:
        """Note a valid image, an array or its bytes, and its stamp."""
        with self._lock:
            detector = self._cameras.setdefault(
                name, FrozenCameraDetector(self.config.frozen_images)
            )
        # The checksum of a large image is too slow to be taken under the lock.
        detector.feed(data, stamp_ns)
        self.arrived(name)

    def arrived(self, name: str) -> None:
        """Note that a valid message of a watched input came."""
        with self._lock:
            self._watchdog.feed(name, self._clock())

    def pose(self, position_m) -> None:
        """Take in the measured end effector [3], base frame; non-finite ones count as missing."""
        position_m = np.array(position_m, np.float64)
        if position_m.shape == (3,) and np.isfinite(position_m).all():
            with self._lock:
                self._position_m = position_m
                self._watchdog.feed(POSE, self._clock())

    def joints(self, positions: Mapping[str, float]) -> None:
        """Take in measured joint positions by name, rad or m; needed in joint space."""
        with self._lock:
            self._joints, self._joints_ns = dict(positions), self._clock()

    def velocity(self, linear_m_s, angular_rad_s) -> None:
        """Take in the measured twist, base frame; it is where a start from READY begins."""
        linear, angular = np.array(linear_m_s, np.float64), np.array(angular_rad_s, np.float64)
        if (
            linear.shape == angular.shape == (3,)
            and np.isfinite(linear).all()
            and np.isfinite(angular).all()
        ):
            with self._lock:
                self._velocity = linear, angular, self._clock()

    def offer(self, chunk: ActionChunk, now_ns: int) -> Offer:
        """Take in a chunk, or say why not."""
        with self._lock:
            if self._machine.state is not State.RUNNING:
                self._executor.counts[Offer.NOT_RUNNING] += 1
                return Offer.NOT_RUNNING
            offer = self._executor.offer(chunk, now_ns)
            if offer is Offer.ACCEPTED:
                self._bad_chunks = 0
            elif offer in (Offer.NON_FINITE, Offer.WRONG_SPEC):
                self.bad_chunk(offer.value)
            return offer

    def bad_chunk(self, reason: str) -> None:
        """Count an answer that was not even a chunk; several in a row hold."""
        with self._lock:
            self._bad_chunks += 1
            if self._bad_chunks >= self.config.max_bad_chunks:
                self._handle(Event.BAD_CHUNKS, f'{self._bad_chunks} in a row, the last: {reason}')

    # Events

    def start(self, reason: str = '') -> Transition:
        """Consent to motion; refused while an input is stale. Restarts when already running."""
        return self._consent(Event.START, reason)

    def resume(self, reason: str = '') -> Transition:
        """Consent to go on after a hold; refused while an input is stale."""
        return self._consent(Event.RESUME, reason)

    def event(self, event: Event, reason: str = '') -> Transition:
        """Raise any other event: hold, estop, reset_estop, configured, deactivated, ..."""
        if event in (Event.START, Event.RESUME):
            return self._consent(event, reason)
        with self._lock:
            return self._handle(event, reason)

    def hold(self, reason: str = '') -> Transition:
        """Stop along the stop profile."""
        return self.event(Event.HOLD, reason)

    def estop(self, reason: str = '') -> Transition:
        """Stop along the stop profile and latch."""
        return self.event(Event.ESTOP, reason)

    def reset_estop(self, reason: str = '') -> Transition:
        """Unlatch; leads to HOLDING."""
        return self.event(Event.RESET_ESTOP, reason)

    def listen(self, listener: Callable[[Transition], None]) -> None:
        """Call `listener` after each accepted event, with the lock held: it must be quick."""
        with self._lock:
            self._machine.listen(listener)

    def set_limits(self, limits: MotionLimits) -> None:
        """Change the limits, at standstill only; otherwise raises ValueError and changes none."""
        with self._lock:
            if not self._joint_space:
                _check(limits, self.config)
            if self._machine.state is State.RUNNING or not self._limiter.still:
                raise ValueError('limits can be changed at standstill only: hold first')
            if not self._joint_space:
                self._limiter.replace(limits)

    @property
    def state(self) -> State:
        """State of the machine."""
        return self._machine.state

    @property
    def generation(self) -> int:
        """What a chunk must carry to be accepted: read it before the inference begins."""
        return self._executor.generation

    @property
    def delay_s(self) -> float | None:
        """From observation to chunk: high percentile of the last ones; None: not known yet."""
        return self._executor.delay.delay_s

    # Output

    def tick(self, now_ns: int, steady_ns: int | None = None) -> Command | JointCommand | None:
        """
        Command to publish now; None: publish nothing.

        To be called every `command_period_s`, whatever the state. now_ns: time on the
        observations' clock. steady_ns: that on the steady clock where the caller read both at
        once, so that what it stamps the command with and what it was limited for agree.
        """
        with self._lock:
            steady_ns = self._clock() if steady_ns is None else steady_ns
            period_s = (
                self.config.command_period_s
                if self._ticked_ns is None
                else (steady_ns - self._ticked_ns) * 1e-9
            )
            self._ticked_ns = steady_ns
            self._watch(now_ns, steady_ns)
            state = self._machine.state
            if state is State.RUNNING:
                wanted = self._wanted(now_ns, steady_ns)
                command = self._limiter.limit(wanted, period_s, self._place(steady_ns))
                self._watch_saturation(steady_ns)
                self._on_wire = True
                return command
            if state in (State.UNREADY, State.READY) and not self._on_wire:
                return None
            command = self._limiter.limit(None, period_s, self._place(steady_ns))
            self._on_wire = state in (State.HOLDING, State.ESTOPPED) or not command.still
            return command

    def status(self, now_ns: int) -> ControllerStatus:
        """Snapshot for diagnostics."""
        with self._lock:
            steady_ns = self._clock()
            return ControllerStatus(
                self._machine.state,
                self._machine.reason,
                self._executor.generation,
                self._executor.depth(now_ns),
                self._executor.delay.delay_s,
                {
                    name: self._watchdog.age_s(name, steady_ns)
                    for name in self._watchdog.timeouts_s
                },
                self._frozen_cameras(),
                dict(self._executor.counts),
                dict(self._limiter.counts),
                self._limiter.limited,
            )

    def _consent(self, event, reason):
        with self._lock:
            state = self._machine.state
            stale = self._watchdog.stale(self._clock())
            if stale and (state, event) in TRANSITIONS:
                return Transition(state, event, state, '; '.join(map(str, stale)), False)
            return self._handle(event, reason)

    def _handle(self, event, reason):
        before = self._machine.state
        if before is State.READY and not self._on_wire:
            # Nothing of ours moves the robot: whatever does, motion takes over from there.
            self._limiter.reset(*self._measured_velocity())
        transition = self._machine.handle(event, reason)
        if transition.accepted and State.RUNNING in (before, transition.after):
            self._begin_run(self._clock())
        return transition

    def _measured_velocity(self):
        if self._velocity is None or self._joint_space:
            return ()
        linear, angular, arrived_ns = self._velocity
        recent = (self._clock() - arrived_ns) * 1e-9 < VELOCITY_TIMEOUT_S
        return (linear, angular) if recent else ()

    def _begin_run(self, steady_ns) -> None:
        self._executor.flush()
        self._bad_chunks = 0
        self._executed_ns: int | None = None
        self._ramp_from_ns: int | None = None
        self._saturated_ns: int | None = None
        self._begun_ns = steady_ns

    def _watch(self, now_ns, steady_ns) -> None:
        jump = self._clock_jumps.feed(now_ns, steady_ns)
        if self._machine.state is not State.RUNNING:
            return
        # What is overdue before the next command is overdue now: stops begin within the timeout.
        stale = self._watchdog.stale(steady_ns, self.config.command_period_s)
        if jump:
            self._handle(Event.CLOCK_JUMP, jump)
        elif stale:
            self._handle(Event.STALE_INPUT, '; '.join(map(str, stale)))
        elif self.config.hold_on_frozen_camera and self._frozen_cameras():
            self._handle(Event.FROZEN_CAMERA, ', '.join(self._frozen_cameras()))

    def _frozen_cameras(self):
        return tuple(name for name, detector in self._cameras.items() if detector.frozen)

    def _wanted(self, now_ns, steady_ns):
        row = self._executor.row(now_ns)
        if row is None:
            self._watch_underrun(steady_ns)
            return None
        if self._executed_ns is None:
            self._ramp_from_ns = steady_ns
        self._executed_ns = steady_ns
        command = (
            self._mapping.command(row, self._place(steady_ns))
            if self._joint_space
            else self._mapping.command(row)
        )
        share = (steady_ns - self._ramp_from_ns) * 1e-9 / self.config.ramp_in_s
        if share >= 1:
            return command
        return command.scaled(share)

    def _watch_underrun(self, steady_ns) -> None:
        first = self._executed_ns is None
        since_ns = self._begun_ns if first else self._executed_ns
        timeout_s = self.config.first_chunk_timeout_s if first else self.config.underrun_timeout_s
        waited_s = (steady_ns - since_ns) * 1e-9
        if waited_s > timeout_s:
            self._handle(
                Event.QUEUE_UNDERRUN,
                f'nothing to execute for {waited_s:.2f} s (limit {timeout_s:.2f} s)',
            )

    def _watch_saturation(self, steady_ns) -> None:
        limited = self._limiter.limited & _SATURATION
        timeout_s = self.config.saturation_timeout_s
        if not limited or timeout_s is None:
            self._saturated_ns = None
        elif self._saturated_ns is None:
            self._saturated_ns = steady_ns
        elif (steady_ns - self._saturated_ns) * 1e-9 > timeout_s:
            reasons = ', '.join(sorted(limit.value for limit in limited))
            self._handle(Event.SATURATED, f'{reasons} for {timeout_s:.1f} s')

    def _place(self, steady_ns):
        """Measured position or joints, moved on by what was commanded since they came."""
        if self._joint_space:
            age_s = (steady_ns - self._joints_ns) * 1e-9
            velocities = self._limiter.velocities
            return {
                name: position + velocities.get(name, 0.0) * age_s
                for name, position in self._joints.items()
            }
        if self._position_m is None:
            return None
        age_s = self._watchdog.age_s(POSE, steady_ns)
        if age_s is None or not math.isfinite(age_s):
            return self._position_m
        return self._position_m + self._limiter.linear_m_s * age_s


def _check(limits, config) -> None:
    if limits.workspace_low_m is not None and POSE not in config.input_timeouts_s:
        raise ValueError(
            f'input_timeouts_s needs {POSE!r}: the workspace cannot be kept to '
            'without knowing where the end effector is'
        )
