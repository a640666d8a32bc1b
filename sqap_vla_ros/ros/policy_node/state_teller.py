"""Publishes and logs every change of state once and in order, whichever thread asks for it."""

from collections import deque
from collections.abc import Callable
from threading import Lock

from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.state_machine import Transition
from sqap_vla_ros.ros.policy_node.motion_control import MotionControl


class StateTeller:
    """
    Tells the state of the loaded policy's controller, and that of the node without a policy.

    Args:
        control: Knows the state.
        publish: Called with the name of each state, and its reason.
        log: Called with one line where the state has changed.
        note: Called with each transition of a controller, after it was published.
    """

    def __init__(
        self,
        control: MotionControl,
        publish: Callable[[str, str], None],
        log: Callable[[str], object],
        note: Callable[[Transition], None],
    ) -> None:
        self._control, self._publish, self._log, self._note = control, publish, log, note
        self._lock = Lock()
        self._transitions: deque[Transition] | None = None
        self._told = self._state()
        publish(*self._told)

    def attach(self, controller: Controller, transitions: deque[Transition]) -> None:
        """Tell the state of a controller from now on; its transitions are appended there."""
        with self._lock:
            self._transitions = transitions
            self._control.attach(controller)

    def detach(self) -> None:
        """Tell the state of a node without a policy from now on."""
        with self._lock:
            self._transitions = None
            self._control.detach()

    def tell(self) -> None:
        """Tell what has happened since the last call."""
        with self._lock:
            while self._transitions:
                transition = self._transitions.popleft()
                self._told = transition.after.value, transition.reason
                if transition.before is not transition.after:
                    self._log(f'{transition.after.value}: {transition.reason}')
                self._publish(*self._told)
                self._note(transition)
            state = self._state()
            if self._transitions is None and state != self._told:
                self._told = state
                self._log(f'{state[0]}: {state[1]}')
                self._publish(*state)

    def _state(self) -> tuple[str, str]:
        state, reason = self._control.state()
        return state.value, reason
