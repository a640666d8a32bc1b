"""The node's side of inference: start a worker, ask it, and end it when it hangs."""

from multiprocessing.connection import Connection
import os
import socket
import subprocess
import sys
import time
from typing import Protocol

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.wire import (
    inference_from_wire,
    info_from_wire,
    observation_to_wire,
    receive,
    send,
    SharedImages,
    WorkerInfo,
)
from sqap_vla_ros.policy import Inference, Observation

DEADLINE, DIED, ERROR, OUT_OF_MEMORY = 'deadline', 'died', 'error', 'out_of_memory'
WORKER = 'sqap_vla_ros.inference.worker'
"""Module that the worker process runs."""


DEATH_PATIENCE_S = 1.0
"""A busy machine can take seconds to bury a process whose socket is closed already."""


class InferenceFailed(Exception):
    """One inference gave no answer; `reason` is one of the constants of this module."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InferenceClient(Protocol):
    """Where inference runs. One thread at a time calls it."""

    info: WorkerInfo

    def start(self) -> None:
        """Load and warm up; blocks. Raises UserError."""

    def infer(self, observation: Observation, reset: bool, budget: float = 1.0) -> Inference:
        """
        Wait for the answer; arguments as in `Engine.infer`.

        Raises InferenceFailed; after 'deadline' and 'died' call `start`.
        """

    def abort(self) -> None:
        """End an inference that runs, if that can be done; callable from any thread."""

    def close(self) -> None:
        """End it; idempotent."""


class ProcessInference:
    """Inference in a process of its own: its Python never holds up the node's."""

    def __init__(
        self,
        policy: str,
        device: str = 'cpu',
        threads: int = 1,
        deadline_s: float = 2.0,
        load_timeout_s: float = 120.0,
        module: str = WORKER,
        cuda_graphs: str = 'auto',
    ) -> None:
        self._command = [
            sys.executable,
            '-m',
            module,
            '--policy',
            str(policy),
            '--device',
            device,
            '--threads',
            str(threads),
            '--cuda-graphs',
            cuda_graphs,
        ]
        self._threads = threads
        self.deadline_s, self.load_timeout_s = deadline_s, load_timeout_s
        self._process = self._connection = self._images = None
        self._sequence = 0
        self.info = None

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None when there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """See `InferenceClient`; ends an earlier worker first."""
        self.close()
        ours, theirs = socket.socketpair()
        self._images = SharedImages.create()
        handles = (theirs.fileno(), self._images.descriptor)
        environment = {**os.environ, 'OMP_NUM_THREADS': str(self._threads)}
        self._process = subprocess.Popen(
            [*self._command, '--socket', str(handles[0]), '--memory', str(handles[1])],
            pass_fds=handles,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        try:
            message = self._wait(self.load_timeout_s)
        except InferenceFailed as error:
            self.close()
            raise UserError(f'inference worker: {error}; see its output above') from None
        if message['kind'] == 'error':
            self.close()
            raise UserError(message['message'])
        self.info = info_from_wire({k: v for k, v in message.items() if k != 'kind'})

    def infer(
        self, observation: Observation, reset: bool = False, budget: float = 1.0
    ) -> Inference:
        """See `InferenceClient`."""
        if self._connection is None:
            raise InferenceFailed(DIED, 'no inference worker runs')
        self._sequence += 1
        request = observation_to_wire(observation, self._images)
        try:
            send(
                self._connection,
                {**request, 'reset': reset, 'budget': budget, 'sequence': self._sequence},
            )
        except OSError:
            raise self._died() from None
        answer = self._wait(self.deadline_s)
        if answer['kind'] == 'failed':
            raise InferenceFailed(answer['reason'], answer['message'])
        try:
            return inference_from_wire(answer, self.info.spec.action)
        except ValueError as error:  # a chunk of another shape than the policy promised
            raise InferenceFailed(ERROR, str(error)) from None

    def _wait(self, timeout_s):
        try:
            if not self._connection.poll(timeout_s):
                self._process.kill()
                self.close()
                raise InferenceFailed(DEADLINE, f'no answer within {timeout_s:g} s')
            return receive(self._connection)
        except (EOFError, OSError):
            raise self._died() from None

    def _died(self):
        try:
            code = self._process.wait(DEATH_PATIENCE_S) if self._process else None
        except subprocess.TimeoutExpired:
            code = 'unknown: it closed its socket and still exists'
        self.close()
        return InferenceFailed(DIED, f'the worker process ended with exit status {code}')

    def abort(self) -> None:
        """See `InferenceClient`; the one who waits for the answer is told that the worker died."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """See `InferenceClient`."""
        if self._process is not None:
            self._connection.close()
            _end(self._process)
            self._images.close()
        self._process = self._connection = self._images = None


def _end(process, patience_s=0.5) -> None:
    """Wait for a worker whose socket was closed; kill one that hangs."""
    deadline = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if process.poll() is None:
        process.kill()
    process.wait()


class ThreadInference:
    """Inference in the calling thread: for debugging, and where a process cannot be had."""

    def __init__(
        self, policy: str, device: str = 'cpu', threads: int = 1, cuda_graphs: str = 'auto'
    ) -> None:
        self._arguments = (policy, device, threads, None, cuda_graphs)
        self._engine = None
        self.info = None

    def start(self) -> None:
        """See `InferenceClient`."""
        from sqap_vla_ros.inference.engine import load_engine

        self._engine = load_engine(*self._arguments)
        self.info = self._engine.info

    def infer(
        self, observation: Observation, reset: bool = False, budget: float = 1.0
    ) -> Inference:
        """See `InferenceClient`; a hanging inference cannot be ended here."""
        from sqap_vla_ros.inference.engine import failure

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
