"""From the chunks of a policy to the commands for a robot, without ROS."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import RLock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.chunk_executor import ChunkExecutor, Offer
from sqap_vla_ros.control.command_space import CommandSpace, RobotCommand
from sqap_vla_ros.control.controller_config import ControllerConfig, ControllerStatus, POSE
from sqap_vla_ros.control.joint_limits import JointLimits
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.plausibility import JUMP_S
from sqap_vla_ros.control.spaces import command_space
from sqap_vla_ros.control.state_machine import Event, State, StateMachine, Transition, TRANSITIONS
from sqap_vla_ros.control.velocity_limiter import Limit
from sqap_vla_ros.control.watchdog import ClockJumpDetector, FrozenCameraDetector, InputWatchdog

_SATURATION = {Limit.SPEED, Limit.WORKSPACE}
VISIBLE_SPEED = 0.005
"""Command above which every image of the arm should differ from the last, m/s or rad/s."""


class Controller:
    """
    Turns chunks into commands; thread-safe, and no call waits for anything but its own lock.

    Every deadline is on the steady clock. Stamps of observations and `tick`'s `now_ns` are on the
    observations' clock, which may be simulated and may jump.

    Only RUNNING executes chunks. HOLDING and ESTOPPED emit the stop profile and then standstill,
    for as long as they last, so that a final hold is on the wire. UNREADY and READY finish a stop
    in progress and then emit nothing. Every transition into or out of RUNNING flushes the chunks.

    Args:
        spec: Columns and timing of the chunks.
        limits: Limits of the end effector.
        config: Timeouts and reactions.
        clock: Returns the steady time in nanoseconds.
        joints: Joint name to its limits, for a policy that commands joints. They replace the
            limits of the end effector: no workspace is kept, and commands are `JointCommand`s.

    Raises:
        UserError: The columns of `spec` are not those of a twist, or not these joints.
        ValueError: `limits` have a workspace, and `config` has no timeout for the pose.
    """

    def __init__(
        self,
        spec: ActionSpec,
        limits: MotionLimits,
        config: ControllerConfig,
        clock: Callable[[], int],
        joints: Mapping[str, JointLimits] | None = None,
    ) -> None:
        self.spec, self.config = spec, config
        self._clock = clock
        self._lock = RLock()
        self._space = command_space(spec, limits, joints)
        _require_pose_timeout(self._space, limits, config)
        self._executor = ChunkExecutor(config.executor, spec)
        self._watchdog = InputWatchdog(config.input_timeouts_s)
        self._cameras: dict[str, FrozenCameraDetector] = {}
        self._machine = StateMachine()
        self._clock_jumps = ClockJumpDetector(config.clock_jump_s, config.clock_pause_s)
        self._ticked_ns: int | None = None
        self._gap_ns: tuple[int, int] | None = None
        """When the last tick came late: observations' clock and steady clock."""
        self._jump_ns = 0, 0
        """Stamp of the last jump of a measurement, and when it was noticed, steady clock."""
        self._on_wire, self._fastest = False, 0.0
        self._begin_run(clock())

    # Inputs

    def image(
        self, name: str, data: NDArray[np.uint8] | bytes, stamp_ns: int, age_s: float = 0.0
    ) -> None:
        """
        Note that a valid image arrived.

        Args:
            name: Name of the camera in `ControllerConfig.input_timeouts_s`.
            data: The image, or its bytes.
            stamp_ns: Its stamp, ns on the observations' clock.
            age_s: Time since its stamp, seconds.
        """
        with self._lock:
            detector = self._cameras.setdefault(
                name, FrozenCameraDetector(self.config.frozen_images)
            )
            # Without tracking, as in a dry run, nobody knows whether the arm follows.
            moving = self.config.watch_tracking and self._fastest > VISIBLE_SPEED
        # The checksum of a large image takes too long to be computed under the lock.
        detector.feed(data, stamp_ns, moving)
        self.arrived(name, age_s)

    def arrived(self, name: str, age_s: float = 0.0) -> None:
        """
        Note that a valid message of a watched input arrived.

        Args:
            name: Of the input.
            age_s: Time since its stamp, seconds: an old message is as good as none.
        """
        with self._lock:
            self._watchdog.feed(name, self._clock() - round(max(age_s, 0.0) * 1e9))

    def pose(
        self,
        position_m: ArrayLike,
        stamp_ns: int,
        age_s: float = 0.0,
        quaternion_xyzw: Sequence[float] | None = None,
    ) -> None:
        """
        Note the measured pose of the end effector.

        Args:
            position_m: [3], base frame, metres. One that is not finite counts as missing.
            stamp_ns: When it was measured, ns on the observations' clock. A pose that is not newer
                than the last one counts as missing.
            age_s: Time since then, seconds.
            quaternion_xyzw: [4], in the base frame, of unit length; None: not measured.
        """
        position = np.array(position_m, np.float64)
        if position.shape == (3,) and np.isfinite(position).all():
            with self._lock:
                if self._space.measure_pose(position.tolist(), quaternion_xyzw, stamp_ns):
                    self.arrived(POSE, age_s)

    def joints(
        self,
        positions: Mapping[str, float],
        stamp_ns: int,
        age_s: float = 0.0,
        name: str = 'joints',
    ) -> None:
        """
        Note the measured joint positions; needed in joint space.

        Args:
            positions: Joint name to position, rad or m. Other joints are ignored.
            stamp_ns: When they were measured, ns on the observations' clock. Positions that are
                not newer than the last ones count as missing.
            age_s: Time since then, seconds.
            name: Name of the input in `ControllerConfig.input_timeouts_s`.
        """
        with self._lock:
            if self._space.measure_joints(positions, stamp_ns):
                self.arrived(name, age_s)

    def offer(self, chunk: ActionChunk, now_ns: int) -> Offer:
        """
        Accept a chunk or refuse it; several unusable ones in a row hold.

        Args:
            chunk: Answer of the policy.
            now_ns: Time of the call, ns on the observations' clock.

        Returns:
            ACCEPTED, or the reason for the refusal.
        """
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
        """Consent to motion after a hold; refused while an input is stale."""
        return self._consent(Event.RESUME, reason)

    def event(self, event: Event, reason: str = '') -> Transition:
        """
        Raise an event.

        Args:
            event: Any event; START and RESUME are treated as in `start` and `resume`.
            reason: One line for people.

        Returns:
            The transition, accepted or refused.
        """
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
        """
        Replace the limits of the end effector, at standstill only; no effect in joint space.

        Args:
            limits: The new limits.

        Raises:
            ValueError: The robot moves, or there is a workspace without a timeout for the pose.
                The limits are unchanged.
        """
        with self._lock:
            _require_pose_timeout(self._space, limits, self.config)
            if self._machine.state is State.RUNNING or not self._space.still:
                raise ValueError('limits can be changed at standstill only: hold first')
            self._space.set_limits(limits)

    def set_period(self, command_period_s: float, gap_s: float) -> None:
        """
        Replace the nominal time between two ticks; see `ControllerConfig`.

        Raises:
            ValueError: One of them is not a finite number above zero.
        """
        with self._lock:
            self.config = replace(self.config, command_period_s=command_period_s, gap_s=gap_s)

    @property
    def stop_time_s(self) -> float:
        """Longest time that a stop takes, seconds."""
        with self._lock:
            return self._space.stop_time_s

    @property
    def still(self) -> bool:
        """Whether the last command was standstill."""
        with self._lock:
            return self._space.still

    @property
    def state(self) -> State:
        """Current state."""
        return self._machine.state

    @property
    def generation(self) -> int:
        """The generation a chunk needs to be accepted: read it before the inference begins."""
        return self._executor.generation

    @property
    def delay_s(self) -> float | None:
        """High percentile of the recent delays from observation to chunk; None: not known yet."""
        return self._executor.delay.delay_s

    # Output

    def tick(self, now_ns: int, steady_ns: int | None = None) -> RobotCommand | None:
        """
        Compute the command to publish now.

        Call it every `command_period_s`, in every state.

        Args:
            now_ns: Time on the observations' clock.
            steady_ns: Time on the steady clock, where the caller read both clocks at once, so that
                the stamp of the command and the period it was limited for agree; None reads it.

        Returns:
            The command; None: publish nothing.
        """
        with self._lock:
            steady_ns = self._clock() if steady_ns is None else steady_ns
            period_s = (
                self.config.command_period_s
                if self._ticked_ns is None
                else (steady_ns - self._ticked_ns) * 1e-9
            )
            self._ticked_ns = steady_ns
            moving = self._machine.state is State.RUNNING or not self._space.still
            if moving and period_s > self.config.gap_s:
                self._gap_ns = now_ns, steady_ns
            self._recent_jumps()
            self._watch(now_ns, steady_ns, period_s)
            if self._in_gap(now_ns, steady_ns):
                return None
            state = self._machine.state
            if state is State.RUNNING:
                command = self._execute(now_ns, steady_ns, period_s)
                self._watch_saturation(steady_ns)
                self._on_wire, self._fastest = True, command.fastest
                return command
            self._fastest = 0.0
            if state in (State.UNREADY, State.READY) and not self._on_wire:
                return None
            if self.config.watch_tracking and self._space.still and self._space.lost:
                self._space.withdraw()
            command = self._space.stop(period_s, now_ns)
            self._on_wire = state in (State.HOLDING, State.ESTOPPED) or not command.still
            return command

    def status(self, now_ns: int) -> ControllerStatus:
        """
        Take a snapshot for diagnostics.

        Args:
            now_ns: Time on the observations' clock.

        Returns:
            The snapshot.
        """
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
                dict(self._space.counts),
                self._space.limited,
            )

    def _consent(self, event: Event, reason: str) -> Transition:
        with self._lock:
            state = self._machine.state
            stale = self._watchdog.stale(self._clock())
            problems = [*map(str, stale), *self._recent_jumps()]
            if self._space.lost and not self._space.still:
                problems.append('the robot is not where it should be, and still being stopped')
            if problems and (state, event) in TRANSITIONS:
                return Transition(state, event, state, '; '.join(problems), False)
            return self._handle(event, reason)

    def _recent_jumps(self) -> list[str]:
        """Say what jumped in the last JUMP_S, on the steady clock: simulated time may be slow."""
        jump_ns, now_ns = self._space.jump_ns, self._clock()
        if jump_ns != self._jump_ns[0]:
            self._jump_ns = jump_ns, now_ns
        recent = now_ns - self._jump_ns[1] <= JUMP_S * 1e9
        return self._space.jumps() if recent else []

    def _handle(self, event: Event, reason: str) -> Transition:
        before = self._machine.state
        if before is State.READY and not self._on_wire:
            # Nothing of ours is on the wire: motion begins at standstill. Without consent no
            # position is commanded, not even the one that was measured: it may be wrong.
            self._space.restart()
            if event not in (Event.START, Event.RESUME):
                self._space.withdraw()
        transition = self._machine.handle(event, reason)
        if transition.accepted and State.RUNNING in (before, transition.after):
            if before is not State.RUNNING:
                self._space.consented()
            self._begin_run(self._clock())
        return transition

    def _begin_run(self, steady_ns: int) -> None:
        self._executor.flush()
        self._bad_chunks = 0
        self._ramp_from_ns: int | None = None
        self._saturated_ns: int | None = None
        self._active_ns = steady_ns

    def _watch(self, now_ns: int, steady_ns: int, period_s: float) -> None:
        jump = self._clock_jumps.feed(now_ns, steady_ns)
        if jump:
            self._space.forget(now_ns, min(period_s, self.config.gap_s))
        if self._machine.state is not State.RUNNING:
            return
        # What is overdue before the next command is overdue now: stops begin within the timeout.
        stale = self._watchdog.stale(steady_ns, self.config.command_period_s)
        if jump:
            self._handle(Event.CLOCK_JUMP, jump)
        elif stale:
            self._handle(Event.STALE_INPUT, '; '.join(map(str, stale)))
        elif problem := self._tracking_problem():
            self._handle(Event.TRACKING_ERROR, problem)
        elif self.config.hold_on_frozen_camera and self._frozen_cameras():
            self._handle(Event.FROZEN_CAMERA, ', '.join(self._frozen_cameras()))

    def _tracking_problem(self) -> str | None:
        # What the robot did while it had no commands is not known; a jump is one nevertheless.
        if self._gap_ns is not None or not self.config.watch_tracking:
            return next(iter(self._space.jumps()), None)
        return self._space.tracking_problem()

    def _in_gap(self, now_ns: int, steady_ns: int) -> bool:
        """Whether a measurement is waited for, from which motion goes on after a late tick."""
        if self._gap_ns is None:
            return False
        since_ns, since_steady_ns = self._gap_ns
        if self._machine.state is State.RUNNING and not self._space.measured_since(since_ns):
            waited_s = (steady_ns - since_steady_ns) * 1e-9
            if waited_s < self.config.gap_patience_s:
                return True
            self._handle(
                Event.STALE_INPUT,
                f'nothing was measured for {waited_s:.2f} s after a late command',
            )
        self._gap_ns = self._ramp_from_ns = None
        running = self._machine.state is State.RUNNING
        self._space.after_gap(self.config.gap_s, now_ns, running)
        return False

    def _frozen_cameras(self) -> tuple[str, ...]:
        return tuple(name for name, detector in self._cameras.items() if detector.frozen)

    def _execute(self, now_ns: int, steady_ns: int, period_s: float) -> RobotCommand:
        row = self._executor.row(now_ns)
        if row is None:
            self._watch_underrun(steady_ns)
            return self._space.stop(period_s, now_ns)
        if self._ramp_from_ns is None:
            self._ramp_from_ns = steady_ns
        self._active_ns = steady_ns
        share = (steady_ns - self._ramp_from_ns) * 1e-9 / self.config.ramp_in_s
        return self._space.move(row, share, period_s, now_ns)

    def _watch_underrun(self, steady_ns: int) -> None:
        first = self._ramp_from_ns is None
        timeout_s = self.config.first_chunk_timeout_s if first else self.config.underrun_timeout_s
        waited_s = (steady_ns - self._active_ns) * 1e-9
        if waited_s > timeout_s:
            self._handle(
                Event.QUEUE_UNDERRUN,
                f'nothing to execute for {waited_s:.2f} s (limit {timeout_s:.2f} s)',
            )

    def _watch_saturation(self, steady_ns: int) -> None:
        limited = self._space.limited & _SATURATION
        timeout_s = self.config.saturation_timeout_s
        if not limited or timeout_s is None:
            self._saturated_ns = None
        elif self._saturated_ns is None:
            self._saturated_ns = steady_ns
        elif (steady_ns - self._saturated_ns) * 1e-9 > timeout_s:
            reasons = ', '.join(sorted(limit.value for limit in limited))
            self._handle(Event.SATURATED, f'{reasons} for {timeout_s:.1f} s')


def _require_pose_timeout(
    space: CommandSpace, limits: MotionLimits, config: ControllerConfig
) -> None:
    if space.needs_pose(limits) and POSE not in config.input_timeouts_s:
        raise ValueError(
            f'input_timeouts_s needs {POSE!r}: the workspace cannot be kept '
            'without knowing where the end effector is'
        )
