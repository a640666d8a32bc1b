"""The node's side of inference: starts a worker, sends requests, and ends it when it hangs."""

from collections.abc import Callable
from dataclasses import asdict
import json
import os
from pathlib import Path
import sys
from threading import RLock
import time
from typing import Any, Protocol

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.channel import MalformedMessage
from sqap_vla_ros.inference.engine import Engine, failure, load_engine
from sqap_vla_ros.inference.same_policy import require_same
from sqap_vla_ros.inference.wire import (
    inference_from_wire,
    info_from_wire,
    observation_to_wire,
    WorkerInfo,
)
from sqap_vla_ros.inference.worker_process import WorkerProcess
from sqap_vla_ros.policy import Inference, Observation
from sqap_vla_ros.runtime_options import RuntimeOptions

DEADLINE, DIED, BROKEN = 'deadline', 'died', 'broken'
"""The worker gave no whole answer in time, has ended, or sent something that is no answer."""
ERROR, OUT_OF_MEMORY = 'error', 'out_of_memory'
"""The worker is there, and its policy failed, or gave an answer that cannot be used."""
WORKER = 'sqap_vla_ros.inference.worker'
"""Module that the worker process runs."""
COMPRESSOR = 'sqap_vla_ros.inference.compressor'
"""Module of the process that compresses a float policy before the worker loads it."""
LOAD_LIMIT_S = 120.0
EXIT_TIMEOUT_S = 1.0
"""On a busy machine a process can take seconds to exit after its socket is closed."""


Tell = Callable[[str], None]
"""Called with one line about what goes on."""


def ignore(_: str) -> None:
    """Stand for a `Tell` that nobody has given."""


class InferenceFailed(Exception):
    """An inference gave no answer; `reason` is one of the constants of this module."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InferenceClient(Protocol):
    """Where inference runs. Only one thread at a time may call it, except for `close`."""

    @property
    def info(self) -> WorkerInfo:
        """The policy; available after `start`."""

    def start(self) -> None:
        """
        Load and warm up; blocks. Called again, it loads the same policy again.

        Raises:
            PolicyChanged: the policy is not the one that was loaded first; it does not run.
            UserError: the policy cannot be loaded, or not in time, or fails its self-test, or
                the client was closed, now or before.
        """

    def check(self) -> None:
        """
        Look, between inferences and without waiting, whether the policy can still answer.

        Raises:
            InferenceFailed: it cannot; call `start`.
        """

    def infer(self, observation: Observation, reset: bool, budget: float = 1.0) -> Inference:
        """
        Run the policy once and wait for the answer; arguments as in `Engine.infer`.

        Raises:
            InferenceFailed: there is no answer; after `DEADLINE`, `DIED` and `BROKEN` call
                `start`.
        """

    def close(self) -> None:
        """
        Release everything, for good; idempotent, and callable from any thread.

        Another thread's `start` and `infer` end at once, with an error.
        """


class ProcessInference:
    """Inference in its own process, so that its Python code never blocks the node's."""

    def __init__(
        self,
        policy: str | Path,
        runtime: RuntimeOptions = RuntimeOptions(),
        deadline_s: float = 2.0,
        load_timeout_s: float = LOAD_LIMIT_S,
        module: str = WORKER,
        recipe: str = '',
        tell: Tell = ignore,
    ) -> None:
        """
        Prepare; nothing is started yet.

        Args:
            policy: directory of the policy.
            runtime: how it runs.
            deadline_s: an inference without a whole answer after this time has failed.
            load_timeout_s: the same for loading the policy and warming it up; compressing it
                may take as long as it takes.
            module: Python module of the worker.
            recipe: what a float policy is compressed with first, see `compressed_copy`; empty:
                it runs as it is.
            tell: called with what is being done while the policy is compressed.
        """
        self._policy, self._recipe = str(policy), recipe
        self._module, self._runtime, self._tell = module, runtime, tell
        self.deadline_s, self.load_timeout_s = deadline_s, load_timeout_s
        self._turn = RLock()
        """Held while a worker is started, asked or released."""
        self._guard = RLock()
        """Of the two below; never held for long."""
        self._worker: WorkerProcess | None = None
        self._closed = False
        self._sequence = 0
        self._info: WorkerInfo | None = None

    @property
    def info(self) -> WorkerInfo:
        """See `InferenceClient`."""
        if self._info is None:
            raise RuntimeError('the inference worker has not been started')
        return self._info

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None when there is none."""
        worker = self._worker
        return None if worker is None else worker.pid

    def start(self) -> None:
        """See `InferenceClient`; ends an earlier worker first."""
        with self._turn:
            self._release()
            try:
                if self._recipe:
                    self._compress()
                info = self._load()
                if self._info is not None:
                    require_same(self._info, info, self._policy)
            except UserError:
                self._release()
                if self._closed:
                    raise UserError(f'policy {self._policy}: loading was cancelled') from None
                raise
            self._info = info

    def check(self) -> None:
        """See `InferenceClient`."""
        worker = self._worker
        if worker is None or worker.ended:
            raise self._died()
        if worker.channel.silent():
            return
        try:
            worker.channel.receive(time.monotonic())
        except (MalformedMessage, TimeoutError):
            pass
        except (EOFError, OSError):
            raise self._died() from None
        raise self._broken('it spoke unasked')

    def infer(
        self, observation: Observation, reset: bool = False, budget: float = 1.0
    ) -> Inference:
        """See `InferenceClient`."""
        with self._turn:
            answer = self._ask(observation, reset, budget)
        if answer.get('kind') == 'failed':
            exhausted = answer.get('reason') == OUT_OF_MEMORY
            raise InferenceFailed(
                OUT_OF_MEMORY if exhausted else ERROR, _line(answer.get('message'))
            )
        try:
            inference = inference_from_wire(answer, self.info.spec.action)
        except ValueError as error:
            raise InferenceFailed(ERROR, _line(error)) from None
        if inference.chunk.stamp_ns != observation.stamp_ns:
            raise InferenceFailed(ERROR, 'the chunk has another stamp than the observation')
        return inference

    def close(self) -> None:
        """See `InferenceClient`."""
        with self._guard:
            self._closed = True
            if self._worker is not None:
                self._worker.interrupt()
        with self._turn:
            self._release()

    def _compress(self) -> None:
        """Exchange the policy for its compressed copy, which later starts use as well."""
        self._spawn(COMPRESSOR, {'policy': self._policy, 'recipe': self._recipe})
        directory = self._first('compressed', None).get('directory')
        self._release(EXIT_TIMEOUT_S)
        self._policy, self._recipe = str(directory), ''

    def _load(self) -> WorkerInfo:
        """Start a worker and wait until it is ready; raises UserError if it will never be."""
        runtime = json.dumps(asdict(self._runtime))
        arguments = {'policy': self._policy, 'runtime': runtime}
        self._spawn(self._module, arguments, self._runtime.threads)
        message = self._first('ready', self.load_timeout_s)
        try:
            return info_from_wire({k: v for k, v in message.items() if k != 'kind'})
        except ValueError as error:
            raise self._stranger(error) from None

    def _spawn(self, module: str, arguments: dict[str, str], threads: int | None = None) -> None:
        options = (text for name, value in arguments.items() for text in (f'--{name}', value))
        environment = {} if threads is None else {'OMP_NUM_THREADS': str(threads)}
        with self._guard:
            if self._closed:
                return
            try:
                self._worker = WorkerProcess(
                    [sys.executable, '-m', module, *options], {**os.environ, **environment}
                )
            except OSError as error:
                raise UserError(
                    f'policy {self._policy}: no inference worker can be started: {error.strerror}'
                ) from None

    def _first(self, kind: str, limit_s: float | None) -> dict[str, Any]:
        """Wait for what a process has been started for; raises UserError if it never comes."""
        worker = self._worker
        if worker is None:
            raise UserError('closed')
        deadline_s = None if limit_s is None else time.monotonic() + limit_s
        try:
            while True:
                message = worker.channel.receive(deadline_s)
                if message.get('kind') == kind:
                    return message
                if message.get('kind') == 'error':
                    raise UserError(_line(message.get('message')))
                if message.get('kind') != 'progress':
                    raise self._stranger('it sent no kind of message that is known')
                self._tell(_line(message.get('message')))
        except TimeoutError:
            raise UserError(
                f'policy {self._policy}: not loaded within {limit_s:g} s; if it only needs '
                'longer, set policy_load_timeout_s of the node to more'
            ) from None
        except (EOFError, OSError):
            raise UserError(
                f'policy {self._policy}: the inference worker ended while it loaded '
                f'({self._release(EXIT_TIMEOUT_S)}); see its output above'
            ) from None
        except MalformedMessage as error:
            raise self._stranger(error) from None

    def _stranger(self, error: object) -> UserError:
        return UserError(
            f'policy {self._policy}: the inference worker is not one of this package: '
            f'{_line(error)}'
        )

    def _ask(self, observation: Observation, reset: bool, budget: float) -> dict[str, Any]:
        """Send a request and return its answer; raises InferenceFailed if there is none."""
        worker = self._worker
        if worker is None:
            raise self._died()
        self._sequence += 1
        request = {
            **observation_to_wire(observation, worker.images),
            'reset': reset,
            'budget': budget,
            'sequence': self._sequence,
        }
        deadline_s = time.monotonic() + self.deadline_s
        try:
            worker.channel.send(request, deadline_s)
            answer = worker.channel.receive(deadline_s)
        except TimeoutError:
            self._release()
            raise InferenceFailed(
                DEADLINE, f'no whole answer within {self.deadline_s:g} s'
            ) from None
        except (EOFError, OSError):
            raise self._died() from None
        except MalformedMessage as error:
            raise self._broken(str(error)) from None
        if answer.get('sequence') != self._sequence:
            raise self._broken('it answered something else than it was asked')
        return answer

    def _broken(self, how: str) -> InferenceFailed:
        with self._turn:
            self._release()
        return InferenceFailed(BROKEN, f'the worker sent something that is no answer: {how}')

    def _died(self) -> InferenceFailed:
        with self._turn:
            how = self._release(EXIT_TIMEOUT_S)
        return InferenceFailed(
            DIED, f'the worker process ended ({how})' if how else 'no inference worker is running'
        )

    def _release(self, patience_s: float = 0.0) -> str:
        """End the worker; returns how it ended, empty where there is none."""
        with self._guard:
            worker, self._worker = self._worker, None
        return '' if worker is None else worker.end(patience_s)


def _line(text: object, longest: int = 1000) -> str:
    return ' '.join(str(text).split())[:longest]


class ThreadInference:
    """Inference in the calling thread, for debugging and where no process can be started."""

    def __init__(
        self,
        policy: str | Path,
        runtime: RuntimeOptions = RuntimeOptions(),
        recipe: str = '',
        tell: Tell = ignore,
    ) -> None:
        self._policy, self._runtime = policy, runtime
        self._recipe, self._tell = recipe, tell
        self._engine: Engine | None = None
        self._info: WorkerInfo | None = None
        self._closed = False

    @property
    def info(self) -> WorkerInfo:
        """See `InferenceClient`."""
        if self._info is None:
            raise RuntimeError('no policy is loaded')
        return self._info

    def start(self) -> None:
        """See `InferenceClient`; loading cannot be ended."""
        self._engine = None
        if self._closed:
            raise UserError(f'policy {self._policy}: loading was cancelled')
        if self._recipe:
            from sqap_vla_ros.models.compressed_copy import compressed_copy  # imports torch

            self._policy = compressed_copy(self._policy, self._recipe, self._tell)
            self._recipe = ''
        engine = load_engine(self._policy, self._runtime)
        if self._info is not None:
            require_same(self._info, engine.info, str(self._policy))
        self._info = engine.info
        if not self._closed:
            self._engine = engine

    def check(self) -> None:
        """See `InferenceClient`."""
        if self._engine is None:
            raise InferenceFailed(DIED, 'no policy is loaded')

    def infer(
        self, observation: Observation, reset: bool = False, budget: float = 1.0
    ) -> Inference:
        """See `InferenceClient`; an inference that hangs cannot be ended."""
        engine = self._engine
        if engine is None:
            raise InferenceFailed(DIED, 'no policy is loaded')
        try:
            return engine.infer(observation, reset, budget)
        except Exception as error:  # any, as in a worker
            raise InferenceFailed(*failure(error)) from None

    def close(self) -> None:
        """See `InferenceClient`; an inference that runs goes on to its end."""
        self._closed, self._engine = True, None
