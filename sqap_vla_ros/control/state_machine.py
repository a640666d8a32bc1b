"""States of the control runtime and all transitions between them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the runtime does; only RUNNING moves a robot."""

    UNREADY = 'UNREADY'
    """Nothing loaded; nothing is commanded."""
    READY = 'READY'
    """Loaded and warmed up, without consent to move; nothing is commanded."""
    RUNNING = 'RUNNING'
    """The policy's actions are executed."""
    HOLDING = 'HOLDING'
    """Stopped, or stopping along the stop profile; standstill is commanded."""
    ESTOPPED = 'ESTOPPED'
    """As HOLDING, but latched: only a reset leads out, to HOLDING and never directly to motion."""


class Event(Enum):
    """Something that may change the state."""

    CONFIGURED = 'configured'
    START = 'start'
    """Consent to motion: a goal, or an instruction where those count as consent."""
    RESUME = 'resume'
    """Consent to motion after a hold."""
    HOLD = 'hold requested'
    FINISHED = 'finished'
    """The task succeeded, ran out of time or was cancelled."""
    ESTOP = 'emergency stop'
    RESET_ESTOP = 'emergency stop reset'
    STALE_INPUT = 'stale input'
    FROZEN_CAMERA = 'frozen camera'
    CLOCK_JUMP = 'clock jump'
    TRACKING_ERROR = 'tracking error'
    """The robot does not do what it is told, or is not measured where it is."""
    QUEUE_UNDERRUN = 'queue underrun'
    BAD_CHUNKS = 'bad chunks'
    SATURATED = 'sustained saturation'
    INFERENCE_FAILED = 'inference failed'
    POLICY_CHANGED = 'policy changed'
    """Another policy is there than the one that everything was set up for."""
    DEACTIVATED = 'deactivated'
    SHUTDOWN = 'shutdown'


FAULTS = (
    Event.STALE_INPUT,
    Event.FROZEN_CAMERA,
    Event.CLOCK_JUMP,
    Event.TRACKING_ERROR,
    Event.QUEUE_UNDERRUN,
    Event.BAD_CHUNKS,
    Event.SATURATED,
    Event.INFERENCE_FAILED,
)
"""Events that the runtime itself raises; they end motion and are refused where there is none."""

TRANSITIONS = {
    (State.UNREADY, Event.CONFIGURED): State.READY,
    (State.READY, Event.START): State.RUNNING,
    (State.READY, Event.RESUME): State.RUNNING,
    (State.HOLDING, Event.START): State.RUNNING,
    (State.HOLDING, Event.RESUME): State.RUNNING,
    (State.RUNNING, Event.START): State.RUNNING,
    (State.READY, Event.HOLD): State.HOLDING,
    (State.RUNNING, Event.HOLD): State.HOLDING,
    (State.HOLDING, Event.HOLD): State.HOLDING,
    (State.RUNNING, Event.FINISHED): State.HOLDING,
    (State.ESTOPPED, Event.RESET_ESTOP): State.HOLDING,
    **{(State.RUNNING, fault): State.HOLDING for fault in FAULTS},
    **{(state, Event.ESTOP): State.ESTOPPED for state in State if state is not State.UNREADY},
    # An emergency stop remains one; consent after its reset is refused without a policy, too.
    (State.READY, Event.POLICY_CHANGED): State.UNREADY,
    (State.RUNNING, Event.POLICY_CHANGED): State.UNREADY,
    (State.HOLDING, Event.POLICY_CHANGED): State.UNREADY,
    # An emergency stop outlasts deactivation, because READY can be started again.
    (State.READY, Event.DEACTIVATED): State.READY,
    (State.RUNNING, Event.DEACTIVATED): State.READY,
    (State.HOLDING, Event.DEACTIVATED): State.READY,
    (State.ESTOPPED, Event.DEACTIVATED): State.ESTOPPED,
    **{(state, Event.SHUTDOWN): State.UNREADY for state in State},
}
"""(state, event) -> next state; every other event is refused."""


@dataclass(frozen=True)
class Transition:
    """One accepted or refused event."""

    before: State
    event: Event
    after: State
    reason: str
    """What happened, or why the event was refused; one line for people."""
    accepted: bool


class StateMachine:
    """
    Holds the state; not thread-safe.

    An event without a transition is refused: it changes nothing and raises nothing.
    """

    def __init__(self) -> None:
        self.state = State.UNREADY
        self.reason = 'not configured'
        """Why the state is what it is."""
        self._listeners: list[Callable[[Transition], None]] = []

    def listen(self, listener: Callable[[Transition], None]) -> None:
        """Call `listener` after each accepted event, in the thread that raised it."""
        self._listeners.append(listener)

    def handle(self, event: Event, reason: str = '') -> Transition:
        """
        Take the transition of `TRANSITIONS` for an event, or refuse it.

        Args:
            event: The event.
            reason: One line for people.

        Returns:
            The transition, accepted or refused.
        """
        before = self.state
        after = TRANSITIONS.get((before, event))
        if after is None:
            return Transition(
                before,
                event,
                before,
                f'{event.value} is not possible in state {before.value}',
                False,
            )
        self.state = after
        self.reason = f'{event.value}: {reason}' if reason else event.value
        transition = Transition(before, event, after, self.reason, True)
        for listener in self._listeners:
            listener(transition)
        return transition
