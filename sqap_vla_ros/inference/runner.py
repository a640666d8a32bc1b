"""The thread that gives a policy the newest observation and passes its answers on."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
import time

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import (
    DEADLINE,
    DIED,
    InferenceClient,
    InferenceFailed,
    OUT_OF_MEMORY,
)
from sqap_vla_ros.policy import Inference, Observation

RESTART_PAUSE_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Before the n-th restart in a row; the last value holds for all further ones."""


@dataclass(frozen=True)
class Request:
    """An observation, and the generation of commands that its answer belongs to."""

    observation: Observation
    generation: int
    received_s: float
    """Steady clock, seconds, when the observation was complete."""
    budget: float = 1.0
    """Share of the recipe's visual tokens that may be kept."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    request: Request
    inference: Inference
    age_s: float
    """Steady time from the request's `received_s` to the answer."""


class InferenceRunner:
    """
    Takes requests from `next_request`, at most one a period, and calls back with the answers.

    All callbacks run in the runner's own thread and must not block. A worker that hangs or dies
    is reported and restarted, with growing pauses. When the device ran out of memory, the request
    is repeated once, now that torch's cache is freed; the worker is restarted if that fails too.
    """

    def __init__(
        self,
        client: InferenceClient,
        next_request: Callable[[], Request | None],
        on_answer: Callable[[Answer], None],
        on_failure: Callable[[str, str], None],
        period_s: float,
    ) -> None:
        """
        Prepare; `start` begins.

        Args:
            client: runs the inferences; closed by `stop`.
            next_request: returns the newest request, or None while there is none.
            on_answer: called with each answer.
            on_failure: called with a reason (of `InferenceFailed`, 'restart' or 'internal') and
                one line of text.
            period_s: shortest time between the starts of two inferences.
        """
        self._client, self._next_request = client, next_request
        self._on_answer, self._on_failure = on_answer, on_failure
        self.period_s = period_s
        self._condition = Condition()
        self._stopping = self._woken = False
        self._generation: int | None = None
        self._failures = 0
        self._thread = Thread(target=self._run, name='inference', daemon=True)

    def start(self) -> None:
        """Begin; the client must have been started before."""
        self._thread.start()

    def wake(self) -> None:
        """Announce that there may be a new request."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def stop(self) -> None:
        """End the thread and then the client."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._client.abort()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopping:
            self._pause(due_s - time.monotonic())
            try:
                due_s = self._step(due_s)
            except Exception as error:
                # Any error: a thread that ended silently would never answer again.
                self._generation = None
                self._failures += 1
                self._on_failure('internal', f'{type(error).__name__}: {error}')
                self._client.close()
                due_s = time.monotonic() + self.period_s

    def _step(self, due_s: float) -> float:
        """Wait for a request and serve it; returns the time at which the next one is due."""
        self._woken = False
        request = self._next_request()
        if request is None:
            with self._condition:
                self._condition.wait_for(lambda: self._woken or self._stopping)
            return due_s
        due_s = max(due_s + self.period_s, time.monotonic())
        self._infer(request)
        return due_s

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping, seconds)

    def _infer(self, request: Request, again: bool = False) -> None:
        reset = request.generation != self._generation
        try:
            inference = self._client.infer(request.observation, reset, request.budget)
        except InferenceFailed as error:
            if self._stopping:
                return
            self._generation = None
            self._failures += 1
            self._on_failure(error.reason, str(error))
            exhausted = error.reason == OUT_OF_MEMORY
            if exhausted and not again:
                self._infer(request, again=True)
            elif exhausted or error.reason in (DEADLINE, DIED):
                self._restart()
            return
        self._generation = request.generation
        self._failures = 0
        self._on_answer(Answer(request, inference, time.monotonic() - request.received_s))

    def _restart(self) -> None:
        while not self._stopping:
            pause = RESTART_PAUSE_S[min(self._failures, len(RESTART_PAUSE_S)) - 1]
            self._pause(pause)
            if self._stopping:
                return
            try:
                self._client.start()
                return
            except UserError as error:
                self._failures += 1
                self._on_failure('restart', str(error))
