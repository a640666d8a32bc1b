"""Simulated arm and policy node as separate processes, with a client."""

import os
from pathlib import Path
import signal
import sys
import time

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.resources import find_resource
from sqap_vla_ros.system.child_process import ChildProcess, isolated_environment, pick_domain_id
from sqap_vla_ros.system.client import POLICY, SIMULATION, SystemClient

RECIPE = 'sqap_w4a4_prune40'
POLICY_MODULE = 'sqap_vla_ros.ros.policy_node.node'


class SimulatedSession:
    """
    Context manager: starts the nodes and activates the policy; always stops the nodes at the end.

    Args:
        policy: Policy directory; a float policy is first compressed with RECIPE into
            `output`/policy.
        output: Directory for logs.
        task: First task of the simulated arm.
        seed: Its first seed.
        domain_id: ROS domain; None: a free one.
        policy_arguments: Further ROS arguments of the policy node.
        simulated_time: Whether the policy node takes its time from the simulated arm. On a machine
            that is too slow for real time the arm would not seem to follow its commands otherwise.

    Raises:
        UserError: A process has ended or does not answer.

    """

    def __init__(
        self,
        policy: Path,
        output: Path,
        task: str,
        seed: int,
        domain_id: int | None = None,
        policy_arguments: tuple[str, ...] = (),
        simulated_time: bool = False,
    ) -> None:
        self._policy, self._output, self._task, self._seed = policy, output, task, seed
        self._domain_id = domain_id
        self._policy_arguments = policy_arguments
        self._simulated_time = str(simulated_time).lower()
        self._client: SystemClient | None = None

    def __enter__(self) -> 'SimulatedSession':
        self._output.mkdir(parents=True, exist_ok=True)
        domain_id = self._domain_id if self._domain_id is not None else pick_domain_id()
        environment = isolated_environment(domain_id, find_resource('config/fastdds_shm.xml'))
        os.environ.update(environment)  # this process takes part too
        self._children = NodeProcesses(self._output, environment)
        self._previous = {
            number: signal.signal(number, self._children.interrupt)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._start(domain_id)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        self._children.stop()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def client(self) -> SystemClient:
        """The client; there is one inside the context."""
        if self._client is None:
            raise RuntimeError('the session is not entered')
        return self._client

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start another node, which is stopped with the others."""
        self._children.start(name, module, *arguments)

    def pid(self, name: str) -> int:
        """Process id of one of the nodes."""
        return self._children.pid(name)

    def _start(self, domain_id: int) -> None:
        children, policy = self._children, self._policy
        compressed = policy
        # All at once: most of their start is spent on imports.
        children.start(
            SIMULATION,
            'sqap_vla_ros.ros.sim_arm.node',
            '--ros-args',
            '-p',
            f'task:={self._task}',
            '-p',
            f'seed:={self._seed}',
            '-p',
            f'publish_clock:={self._simulated_time}',
        )
        if not (policy / 'recipe.yaml').exists():
            compressed = self._output / 'policy'
            print(f'compressing {policy} with recipe {RECIPE}', flush=True)
            children.start(
                'compress',
                'sqap_vla_ros.cli',
                'compress',
                str(policy),
                str(compressed),
                '--recipe',
                RECIPE,
                ends=True,
            )
        children.start(
            POLICY,
            POLICY_MODULE,
            '--ros-args',
            '-p',
            f'policy:={compressed.resolve()}',
            '-p',
            f'use_sim_time:={self._simulated_time}',
            *self._policy_arguments,
        )
        if compressed != policy:
            children.finish('compress')
        self._client = SystemClient(domain_id, children.check)
        print(f'starting {SIMULATION} and {POLICY} (ROS domain {domain_id})', flush=True)
        self._client.wait_for_arm()
        try:
            self._client.start_policy()
        except UserError as error:
            raise UserError(f'{error}: {children.last_output(POLICY)}') from None


class NodeProcesses:
    """Processes of nodes and commands, with their logs in one directory."""

    def __init__(self, output: Path, environment: dict[str, str]) -> None:
        self._output, self._environment = output, environment
        self._processes: dict[str, ChildProcess] = {}
        self._ending: set[str] = set()
        self._interrupted = self._starting = False

    def interrupt(self, *_: object) -> None:
        """Handle a signal: raise KeyboardInterrupt, and again in `check` if it is lost."""
        # Python drops an exception that a signal handler raises inside a finalizer.
        self._interrupted = True
        if not self._starting:
            raise KeyboardInterrupt

    def start(self, name: str, module: str, *arguments: str, ends: bool = False) -> None:
        """Run a module; `ends`: it finishes by itself."""
        if ends:
            self._ending.add(name)
        # An exception between fork and assignment would leave a child that is never stopped.
        self._starting = True
        try:
            self._processes[name] = ChildProcess(
                name,
                [sys.executable, '-m', module, *arguments],
                self._output / f'{name}.log',
                self._environment,
            )
        finally:
            self._starting = False
        if self._interrupted:
            raise KeyboardInterrupt

    def pid(self, name: str) -> int:
        """Return the process id."""
        return self._processes[name].pid

    def finish(self, name: str, timeout_s: float = 180.0) -> None:
        """Wait for a process that finishes by itself."""
        deadline_s = time.monotonic() + timeout_s
        while self._processes[name].status is None:
            self.check()
            if time.monotonic() > deadline_s:
                raise UserError(
                    f'{name} did not end within {timeout_s:g} s: {self.last_output(name)}'
                )
            time.sleep(0.05)
        self.check()

    def check(self) -> None:
        """Raise UserError if a process has ended unexpectedly or has failed."""
        if self._interrupted:
            raise KeyboardInterrupt
        for name, process in self._processes.items():
            status = process.status
            if status is not None and not (status == 0 and name in self._ending):
                raise UserError(f'{name} ended with status {status}: {self.last_output(name)}')

    def last_output(self, name: str) -> str:
        """Return the last line of its log and the path of the log."""
        process = self._processes[name]
        return f'{process.last_line()} (log: {process.log})'

    def stop(self) -> None:
        """Stop them, last started first: the arm still receives the final hold of the policy."""
        for name, process in reversed(self._processes.items()):
            running = process.status is None
            status = process.stop()
            if running and status != 0:
                print(
                    f'{name} ended with status {status}: {self.last_output(name)}', file=sys.stderr
                )
