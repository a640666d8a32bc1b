"""The thread that gives a policy the newest observation and passes its answers on."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
import time

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import (
    ERROR,
    InferenceClient,
    InferenceFailed,
    OUT_OF_MEMORY,
)
from sqap_vla_ros.inference.same_policy import PolicyChanged
from sqap_vla_ros.policy import Inference, Observation

RESTART, CHANGED, INTERNAL = 'restart', 'policy changed', 'internal'
"""Reasons of failures beside those of `InferenceFailed`: the policy cannot be loaded again,
another policy was there instead, or there is a mistake in this package."""
WATCH_S = 0.05
"""Time after which the end of a worker without work is noticed."""
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

    All callbacks run in the runner's own thread and must not block. A worker that hangs or dies,
    also while it has nothing to do, is reported and restarted, with growing pauses. Another
    policy than the first is never run: it is reported once, and nothing is inferred any more.
    When the device ran out of memory, the request is repeated once, now that torch's cache is
    freed; the worker is restarted if that fails too.
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
            client: runs the inferences; started already, and closed by `stop`.
            next_request: returns the newest request, or None while there is none.
            on_answer: called with each answer.
            on_failure: called with a reason (of `InferenceFailed` or of this module) and one line
                of text.
            period_s: shortest time between the starts of two inferences.
        """
        self._client, self._next_request = client, next_request
        self._on_answer, self._on_failure = on_answer, on_failure
        self.period_s = period_s
        self.unavailable: str | None = None
        """Why no inference is possible now, one line; None while it is."""
        self._condition = Condition()
        self._stopping = self._woken = False
        self._generation: int | None = None
        self._failures = 0
        self._thread = Thread(target=self._run, name='inference', daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Announce that there may be a new request."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def stop(self) -> None:
        """Close the client, which ends what it does, and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._client.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopping:
            try:
                due_s = self._step(due_s)
            except InferenceFailed as error:
                report = self._failed if error.reason == ERROR else self._lost
                report(error.reason, str(error))
            except Exception as error:
                # Any error: a thread that ended silently would never answer again.
                self._lost(INTERNAL, f'{type(error).__name__}: {error}')

    def _step(self, due_s: float) -> float:
        """Wait for a request and serve it; returns the time at which the next one is due."""
        self._wait(due_s)
        self._woken = False
        request = None if self._stopping else self._next_request()
        if request is None:
            self._wait()
            return due_s
        due_s = max(due_s + self.period_s, time.monotonic())
        if self.unavailable is None:
            self._infer(request)
        else:
            self._on_failure(CHANGED, self.unavailable)
        return due_s

    def _wait(self, until_s: float | None = None) -> None:
        """
        Wait until a time, or, without one, until the runner is woken.

        Raises:
            InferenceFailed: the worker has ended meanwhile.
        """
        while True:
            left_s = WATCH_S if until_s is None else min(until_s - time.monotonic(), WATCH_S)
            if left_s > 0:
                with self._condition:
                    self._condition.wait_for(
                        lambda: self._stopping or (until_s is None and self._woken), left_s
                    )
            done = self._woken if until_s is None else until_s <= time.monotonic()
            if self._stopping or done:
                return
            if self.unavailable is None:
                self._client.check()

    def _infer(self, request: Request) -> None:
        reset = request.generation != self._generation
        try:
            inference = self._client.infer(request.observation, reset, request.budget)
        except InferenceFailed as error:
            if error.reason != OUT_OF_MEMORY:
                raise
            self._failed(error.reason, str(error))
            if self._stopping:
                return
            inference = self._client.infer(request.observation, True, request.budget)
        self._generation = request.generation
        self._failures = 0
        self._on_answer(Answer(request, inference, time.monotonic() - request.received_s))

    def _failed(self, reason: str, text: str) -> None:
        self._generation = None
        self._failures += 1
        if not self._stopping:
            self._on_failure(reason, text)

    def _lost(self, reason: str, text: str) -> None:
        """Report that the worker is lost, and replace it."""
        self.unavailable = f'the policy is being loaded again after: {reason}: {text}'
        self._failed(reason, text)
        while not self._stopping:
            self._pause(RESTART_PAUSE_S[min(self._failures, len(RESTART_PAUSE_S)) - 1])
            if self._stopping:
                return
            try:
                self._client.start()
                self.unavailable = None
                return
            except PolicyChanged as error:
                self.unavailable = str(error)
                self._failed(CHANGED, str(error))
                return
            except UserError as error:
                self.unavailable = str(error)
                self._failed(RESTART, str(error))

    def _pause(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping, seconds)
