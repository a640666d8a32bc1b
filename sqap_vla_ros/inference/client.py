"""The node's side of inference: starts a worker, sends requests, and ends it when it hangs."""

from dataclasses import asdict, dataclass
import json
from multiprocessing.connection import Connection
import os
from pathlib import Path
import socket
import subprocess
import sys
import time
from typing import Any, Protocol

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.engine import Engine, failure, load_engine
from sqap_vla_ros.inference.wire import (
    inference_from_wire,
    info_from_wire,
    observation_to_wire,
    receive,
    send,
    SharedImages,
    Socket,
    WorkerInfo,
)
from sqap_vla_ros.policy import Inference, Observation
from sqap_vla_ros.runtime_options import RuntimeOptions

DEADLINE, DIED, ERROR, OUT_OF_MEMORY = 'deadline', 'died', 'error', 'out_of_memory'
WORKER = 'sqap_vla_ros.inference.worker'
"""Module that the worker process runs."""


EXIT_TIMEOUT_S = 1.0
"""On a busy machine a process can take seconds to exit after its socket is closed."""


class InferenceFailed(Exception):
    """An inference gave no answer; `reason` is one of the constants of this module."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InferenceClient(Protocol):
    """Where inference runs. Only one thread at a time may call it."""

    @property
    def info(self) -> WorkerInfo:
        """The policy; available after `start`."""

    def start(self) -> None:
        """
        Load and warm up; blocks.

        Raises:
            UserError: the policy cannot be loaded, or fails its self-test.
        """

    def infer(self, observation: Observation, reset: bool, budget: float = 1.0) -> Inference:
        """
        Run the policy once and wait for the answer; arguments as in `Engine.infer`.

        Raises:
            InferenceFailed: there is no answer; after `DEADLINE` and `DIED` call `start`.
        """

    def abort(self) -> None:
        """End a running inference where that is possible; callable from any thread."""

    def close(self) -> None:
        """Release everything; idempotent."""


class ProcessInference:
    """Inference in its own process, so that its Python code never blocks the node's."""

    def __init__(
        self,
        policy: str | Path,
        runtime: RuntimeOptions = RuntimeOptions(),
        deadline_s: float = 2.0,
        load_timeout_s: float = 120.0,
        module: str = WORKER,
    ) -> None:
        """
        Prepare; nothing is started yet.

        Args:
            policy: directory of the policy.
            runtime: how it runs.
            deadline_s: an inference without an answer after this time has failed.
            load_timeout_s: the same for loading the policy and warming it up.
            module: Python module of the worker.
        """
        self._command = [
            sys.executable,
            '-m',
            module,
            '--policy',
            str(policy),
            '--runtime',
            json.dumps(asdict(runtime)),
        ]
        self._threads = runtime.threads
        self.deadline_s, self.load_timeout_s = deadline_s, load_timeout_s
        self._worker: _Worker | None = None
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
        return self._worker.process.pid if self._worker else None

    def start(self) -> None:
        """See `InferenceClient`; ends an earlier worker first."""
        self.close()
        ours, theirs = socket.socketpair()
        images = SharedImages.create()
        handles = (theirs.fileno(), images.descriptor)
        environment = {**os.environ, 'OMP_NUM_THREADS': str(self._threads)}
        process = subprocess.Popen(
            [*self._command, '--socket', str(handles[0]), '--memory', str(handles[1])],
            pass_fds=handles,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._worker = worker = _Worker(process, Connection(ours.detach()), images)
        try:
            message = self._wait(worker, self.load_timeout_s)
        except InferenceFailed as error:
            self.close()
            raise UserError(f'inference worker: {error}; see its output above') from None
        if message['kind'] == 'error':
            self.close()
            raise UserError(message['message'])
        self._info = info_from_wire({k: v for k, v in message.items() if k != 'kind'})

    def infer(
        self, observation: Observation, reset: bool = False, budget: float = 1.0
    ) -> Inference:
        """See `InferenceClient`."""
        worker = self._worker
        if worker is None:
            raise InferenceFailed(DIED, 'no inference worker is running')
        self._sequence += 1
        request = observation_to_wire(observation, worker.images)
        try:
            send(
                worker.connection,
                {**request, 'reset': reset, 'budget': budget, 'sequence': self._sequence},
            )
        except OSError:
            raise self._died(worker) from None
        answer = self._wait(worker, self.deadline_s)
        if answer['kind'] == 'failed':
            raise InferenceFailed(answer['reason'], answer['message'])
        try:
            return inference_from_wire(answer, self.info.spec.action)
        except ValueError as error:  # the chunk has another shape than the policy's spec
            raise InferenceFailed(ERROR, str(error)) from None

    def _wait(self, worker: '_Worker', timeout_s: float) -> dict[str, Any]:
        try:
            if not worker.connection.poll(timeout_s):
                worker.process.kill()
                self.close()
                raise InferenceFailed(DEADLINE, f'no answer within {timeout_s:g} s')
            return receive(worker.connection)
        except (EOFError, OSError):
            raise self._died(worker) from None

    def _died(self, worker: '_Worker') -> InferenceFailed:
        try:
            code: int | str = worker.process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = 'unknown: it closed its socket and has not exited'
        self.close()
        return InferenceFailed(DIED, f'the worker process ended with exit status {code}')

    def abort(self) -> None:
        """See `InferenceClient`; a thread that waits for the answer gets `DIED`."""
        worker = self._worker
        if worker is not None:
            worker.process.kill()

    def close(self) -> None:
        """See `InferenceClient`."""
        if self._worker is not None:
            self._worker.connection.close()
            _end(self._worker.process)
            self._worker.images.close()
        self._worker = None


@dataclass(frozen=True)
class _Worker:
    """A running worker process and what is shared with it."""

    process: subprocess.Popen[bytes]
    connection: Socket
    images: SharedImages


def _end(process: subprocess.Popen[bytes], patience_s: float = 0.5) -> None:
    """Wait for a worker whose socket is closed; kill one that hangs."""
    deadline = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if process.poll() is None:
        process.kill()
    process.wait()


class ThreadInference:
    """Inference in the calling thread, for debugging and where no process can be started."""

    def __init__(self, policy: str | Path, runtime: RuntimeOptions = RuntimeOptions()) -> None:
        self._policy, self._runtime = policy, runtime
        self._engine: Engine | None = None

    @property
    def info(self) -> WorkerInfo:
        """See `InferenceClient`."""
        if self._engine is None:
            raise RuntimeError('no policy is loaded')
        return self._engine.info

    def start(self) -> None:
        """See `InferenceClient`."""
        self._engine = load_engine(self._policy, self._runtime)

    def infer(
        self, observation: Observation, reset: bool = False, budget: float = 1.0
    ) -> Inference:
        """See `InferenceClient`; an inference that hangs cannot be ended."""
        if self._engine is None:
            raise InferenceFailed(DIED, 'no policy is loaded')
        try:
            return self._engine.infer(observation, reset, budget)
        except (UserError, RuntimeError, ValueError) as error:
            raise InferenceFailed(*failure(error)) from None

    def abort(self) -> None:
        """See `InferenceClient`; impossible here."""

    def close(self) -> None:
        """See `InferenceClient`."""
        self._engine = None
