"""
What people have asked for: emergency stop, hold and consent, for as long as the process lives.

A policy comes and goes with configure and cleanup; what was asked for stays. Requests come from
several threads: services in one, goals and instructions in another, signals in a third.
"""

from collections.abc import Callable
from threading import RLock

from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.state_machine import Event, State, Transition

NOT_CONFIGURED = 'not configured'
STOPPED_MEANWHILE = 'motion was stopped after it was asked for'


class MotionControl:
    """
    Passes requests on to the controller of the loaded policy, and keeps those that outlast it.

    Thread-safe. No method waits for anything but locks that are held for a moment, so that a stop
    is never kept waiting. Whatever starts motion does so under the same lock as what stops it: a
    request to stop that has been answered is never followed by motion that was asked for before.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._controller: Controller | None = None
        self._active = False
        self._estop = ''
        """Why there is an emergency stop; empty: there is none."""
        self._held = False
        """Whether somebody stopped motion; then the instruction topic does not restart it."""
        self._stops = 0
        self._ending = ''
        """Why the process is about to end; empty: it is not."""

    @property
    def active(self) -> bool:
        """Whether commands are allowed out."""
        return self._active

    @property
    def held(self) -> bool:
        """Whether somebody stopped motion, and nobody has asked for it since."""
        return self._held

    @property
    def ending(self) -> str:
        """Why the process is about to end; empty: it is not."""
        return self._ending

    @property
    def stops(self) -> int:
        """How often anybody asked to stop; what was asked for before may not start any more."""
        return self._stops

    # Configure, activate, deactivate, cleanup

    def attach(self, controller: Controller) -> None:
        """Use the controller of a policy that was loaded; an earlier emergency stop holds on."""
        with self._lock:
            self._controller = controller
            if self._estop:
                controller.estop(self._estop)

    def detach(self) -> None:
        """Forget the controller: its policy is unloaded."""
        with self._lock:
            self._controller, self._active = None, False

    def activate(self) -> bool:
        """Allow commands out; False if no policy is loaded."""
        with self._lock:
            self._active = self._controller is not None
            return self._active

    def deactivate(self, reason: str) -> bool:
        """Begin to stop, and allow no further motion; False if it was not active."""
        with self._lock:
            if not self._active or self._controller is None:
                return False
            self._active = False
            self._controller.event(Event.DEACTIVATED, reason)
            return True

    def end(self, reason: str) -> None:
        """Begin to stop because the process ends; nothing starts motion any more."""
        with self._lock:
            self._ending = reason
            self._stops += 1
            if self._controller is not None:
                self._controller.event(Event.DEACTIVATED, reason)

    # Requests

    def hold(self, reason: str) -> Transition:
        """Stop; only a goal or `resume` starts motion again."""
        return self._halt(Event.HOLD, State.UNREADY, reason)

    def estop(self, reason: str) -> Transition:
        """Stop and latch; taken in every state, and kept until `reset_estop`."""
        with self._lock:
            self._estop = self._estop or reason or 'requested'
            return self._halt(Event.ESTOP, State.ESTOPPED, reason)

    def reset_estop(self, reason: str) -> Transition:
        """Unlatch; nothing moves before somebody asks for it."""
        with self._lock:
            was, self._estop = self._estop, ''
            if self._controller is not None:
                return self._controller.reset_estop(reason)
            event, after = Event.RESET_ESTOP, State.UNREADY
            if not was:
                why = f'{event.value} is not possible in state {after.value}'
                return Transition(after, event, after, why, False)
            why = f'{event.value}: {reason}; {NOT_CONFIGURED}'
            return Transition(State.ESTOPPED, event, after, why, True)

    def resume(self, reason: str, check: Callable[[], str | None]) -> Transition:
        """
        Consent to motion.

        Args:
            reason: Who asked for it.
            check: Returns why not, or None; called with the lock held.

        Returns:
            The transition, accepted or refused.
        """
        with self._lock:
            controller = self._controller
            refusal = self.refusal(estop=False) or check()
            if refusal is not None or controller is None:
                state = self.state()[0]
                return Transition(state, Event.RESUME, state, refusal or NOT_CONFIGURED, False)
            transition = controller.resume(reason)
            if transition.accepted:
                self._held = False
            return transition

    def start(
        self, reason: str, stops: int | None = None, unless_held: bool = False
    ) -> str | None:
        """
        Start motion.

        Args:
            reason: Who asked for it.
            stops: `stops` at the time when it was asked for; None: just now.
            unless_held: Whether a hold that nobody took back refuses it.

        Returns:
            None if motion started; otherwise why not.
        """
        with self._lock:
            refusal = self.refusal()
            if refusal is not None or self._controller is None:
                return refusal
            if stops not in (None, self._stops):
                return STOPPED_MEANWHILE
            if unless_held and self._held:
                return 'motion was stopped; call ~/resume, or send a goal'
            transition = self._controller.start(reason)
            if not transition.accepted:
                return transition.reason
            self._held = False
            return None

    def fail(self, reason: str) -> None:
        """Stop, if the robot moves, because a part of the node has failed."""
        with self._lock:
            if self._controller is not None and self._controller.state is State.RUNNING:
                self._halt(Event.HOLD, State.UNREADY, reason)

    # State

    def refusal(self, estop: bool = True) -> str | None:
        """Reason why no motion can start now; None if it can. `estop`: whether that counts."""
        with self._lock:
            if self._ending:
                return f'the node is about to end: {self._ending}'
            if not self._active or self._controller is None:
                return 'the node is not active; activate it first'
            if estop and self._controller.state is State.ESTOPPED:
                return 'emergency stop; call ~/reset_estop first'
            return None

    def state(self) -> tuple[State, str]:
        """State and reason while no policy is loaded; otherwise those of the controller."""
        with self._lock:
            if self._controller is not None:
                status = self._controller.status(0)
                return status.state, status.reason
            if self._estop:
                return State.ESTOPPED, f'{Event.ESTOP.value}: {self._estop}; {NOT_CONFIGURED}'
            return State.UNREADY, NOT_CONFIGURED

    def _halt(self, event: Event, unloaded: State, reason: str) -> Transition:
        with self._lock:
            self._held = True
            self._stops += 1
            if self._controller is not None:
                return self._controller.event(event, reason)
            before = State.UNREADY
            if self._estop:
                unloaded = State.ESTOPPED
            return Transition(
                before, event, unloaded, f'{event.value}: {reason}; {NOT_CONFIGURED}', True
            )
