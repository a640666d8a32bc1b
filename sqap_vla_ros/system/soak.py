"""Soak test with random faults: no memory growth, no deadlock, no violated motion limit."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
import os
from pathlib import Path
import random
import signal
import threading
import time
from typing import Any

from geometry_msgs.msg import TwistStamped
import numpy as np
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla_ros.control.audit import CommandAudit
from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.limits import MAX_PERIOD_S, MotionLimits
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.msg import InferenceStats
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.ros.common.qos import LATCHED
from sqap_vla_ros.ros.stand_ins.fault_injector_node import remappings
from sqap_vla_ros.system.child_process import wait_until
from sqap_vla_ros.system.client import POLICY, SIMULATION
from sqap_vla_ros.system.process_usage import children, usage
from sqap_vla_ros.system.session import SimulatedSession
from sqap_vla_ros.system.soak_report import SoakRecord

INJECTOR = 'fault_injector'
SAMPLE_S = 5.0
COMMAND_PERIOD_S = 0.02
JITTER_S = 0.0005
"""Largest error of the time between commands, taken from their stamps."""
REACTION_LIMIT_S, RECOVERY_LIMIT_S = 20.0, 180.0
"""Generous, for a busy machine; the report has the measured times."""
WORKER_KILLED = 'worker killed'


@dataclass(frozen=True)
class SoakFault:
    """A fault that lasts for a while."""

    name: str
    begin: Callable[['Soak'], None]
    end: Callable[['Soak'], None] = lambda soak: None
    holds: bool = True
    """Whether the arm must hold; False: it must go on."""


def _stream(name: str, fault: str, holds: bool = True, **settings: Any) -> SoakFault:
    return SoakFault(
        f'{name}: {fault}',
        lambda soak: soak.inject(**{name: fault}, **settings),
        lambda soak: soak.inject(**{name: 'none'}),
        holds,
    )


FAULTS = (
    _stream('image', 'drop'),
    _stream('image', 'truncated'),
    _stream('image', 'huge'),
    _stream('image', 'wrong_encoding'),
    _stream('image', 'old_stamp'),
    _stream('pose', 'drop'),
    _stream('image', 'delay', delay_s=1.5),
    _stream('pose', 'nan'),
    _stream('pose', 'wrong_frame'),
    _stream('pose', 'freeze'),
    _stream('pose', 'elsewhere'),
    _stream('pose', 'delay', holds=False, delay_s=0.3),
    _stream('joints', 'missing'),
    _stream('joints', 'nan'),
    _stream('image', 'freeze', holds=False),
    _stream('image', 'flood', holds=False, copies=5),
    _stream('joints', 'reversed', holds=False),
    _stream('instruction', 'megabyte', holds=False),
    SoakFault('hold service', lambda soak: soak.trigger('hold')),
    SoakFault(
        'emergency stop',
        lambda soak: soak.trigger('estop'),
        lambda soak: soak.trigger('reset_estop'),
    ),
    SoakFault('node stalled', lambda soak: soak.stall_node(), holds=False),
    SoakFault(WORKER_KILLED, lambda soak: soak.signal_worker(signal.SIGKILL)),
    SoakFault('worker stopped', lambda soak: soak.signal_worker(signal.SIGSTOP)),
)


class Soak:
    """A soak test of a running session. Methods block."""

    def __init__(
        self, session: SimulatedSession, tasks: Sequence[str], seed: int, minutes: float
    ) -> None:
        self._session, self._client = session, session.client
        self._tasks = tasks
        self._random = random.Random(seed)
        self.record = SoakRecord(minutes)
        self._audit = CommandAudit(MotionLimits(), JITTER_S, MAX_PERIOD_S)
        self._last_commands: deque[tuple[float, list, list]] = deque(maxlen=8)
        self._state = ''
        self._last_stamp_ns: int | None = None
        self._stopping = threading.Event()
        self._client.listen(String, f'{POLICY}/state', self._take_state, LATCHED)
        self._client.listen(TwistStamped, 'twist_command', self._take_command)
        self._client.listen(InferenceStats, f'{POLICY}/inference_stats', self._take_stats)
        self._instruction = self._client.publisher(String, 'instruction')

    def run(self, faults: tuple[SoakFault, ...], most: int | None = None) -> None:
        """Inject faults until the time is up, `most` faults are done, or Ctrl-C."""
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        begun_s, count = time.monotonic(), 0
        end_s = begun_s + 60 * self.record.minutes
        try:
            while time.monotonic() < end_s and (most is None or count < most):
                self._round(self._random.choice(faults))
                count += 1
        except UserError as error:
            self.record.crash = str(error)
        except KeyboardInterrupt:
            print('interrupted: the report covers the time until now')
        finally:
            self.record.minutes = (time.monotonic() - begun_s) / 60
            self._stopping.set()
            sampler.join()
            self.record.violations = {
                violation.value: number for violation, number in self._audit.violations.items()
            }

    def inject(self, **values: Any) -> None:
        """Set parameters of the fault injector."""
        self._client.set_parameters(INJECTOR, **values)

    def trigger(self, service: str) -> Trigger.Response:
        """Call one of the policy node's services."""
        return self._client.trigger(f'{POLICY}/{service}')

    def signal_worker(self, number: signal.Signals) -> None:
        """Send a signal to the inference worker."""
        workers = children(self._session.pid(POLICY))
        if workers:
            os.kill(workers[-1], number)

    def stall_node(self) -> None:
        """Stop the policy node for a moment, as a machine does that has too much to do."""
        pid = self._session.pid(POLICY)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._random.uniform(0.05, 0.5))
        os.kill(pid, signal.SIGCONT)

    def _round(self, fault: SoakFault) -> None:
        self._start_motion()
        time.sleep(self._random.uniform(0.5, 2.0))
        if not self._running():  # a slow machine has stopped the motion
            self._start_motion()
        begun_s = time.monotonic()
        fault.begin(self)
        held = wait_until(
            lambda: not self._running(), REACTION_LIMIT_S if fault.holds else 1.0, 0.005
        )
        reaction_s = time.monotonic() - begun_s if held else None
        time.sleep(self._random.uniform(0.0, 1.0))
        fault.end(self)
        ended_s = time.monotonic()
        recovered = self._start_motion()
        self.record.faults.setdefault(fault.name, []).append(
            {
                'held': held or not fault.holds,
                'reaction_s': reaction_s if fault.holds else None,
                'recovery_s': time.monotonic() - ended_s if recovered else None,
            }
        )

    def _start_motion(self) -> bool:
        """Start a scene, an instruction and motion; returns whether a chunk came."""
        limit_s = time.monotonic() + RECOVERY_LIMIT_S
        instruction = None
        while time.monotonic() < limit_s:
            if not self._running():
                if instruction is None:
                    instruction = self._client.reset(
                        self._random.choice(self._tasks), self._random.randrange(2**31)
                    )
                self._instruction.publish(String(data=instruction))
                if not self.trigger('resume').success:
                    time.sleep(0.2)
                    continue
            before = self.record.inferences
            if wait_until(partial(self._inferred_since, before), 5.0, 0.02):
                return True
            instruction = None
        return False

    def _inferred_since(self, count: int) -> bool:
        return self.record.inferences > count

    def _running(self) -> bool:
        return self._state.startswith('RUNNING')

    def _sample(self) -> None:
        while not self._stopping.is_set():
            now_s = time.monotonic()
            pids = {name: self._session.pid(name) for name in (POLICY, SIMULATION, INJECTOR)}
            workers = children(pids[POLICY])
            if workers:
                pids['worker'] = workers[-1]
            for name, pid in pids.items():
                sample = usage(pid, now_s)
                if sample is not None:
                    self.record.samples.setdefault(name, []).append(sample)
            self.record.load.append(os.getloadavg()[0])
            self._stopping.wait(SAMPLE_S)

    # Callbacks in the client's thread

    def _take_state(self, message: String) -> None:
        self._state = message.data

    def _take_stats(self, message: InferenceStats) -> None:
        self.record.inferences += 1
        self.record.overruns += message.observation_age_ms > 800

    def _take_command(self, message: TwistStamped) -> None:
        record, stamp_ns = self.record, stamp_to_ns(message.header.stamp)
        before_ns, self._last_stamp_ns = self._last_stamp_ns, stamp_ns
        record.commands += 1
        linear, angular = message.twist.linear, message.twist.angular
        command = Command(
            np.array([linear.x, linear.y, linear.z]), np.array([angular.x, angular.y, angular.z])
        )
        period_s = 0.0 if before_ns is None else (stamp_ns - before_ns) * 1e-9
        record.command_gaps += period_s > 5 * COMMAND_PERIOD_S
        self._last_commands.append(
            (period_s, command.linear_m_s.tolist(), command.angular_rad_s.tolist())
        )
        found = self._audit.check(command, period_s)
        if found:
            record.violating.append(
                {
                    'limits': [violation.value for violation in found],
                    'state': self._state,
                    'period_s, m/s, rad/s': list(self._last_commands),
                }
            )


def run(
    policy: Path,
    output: Path,
    minutes: float,
    seed: int,
    worker_kills: int = 0,
    domain_id: int | None = None,
) -> SoakRecord:
    """
    Start simulated arm, fault injector and policy, inject faults, and stop everything.

    Args:
        policy: Policy directory.
        output: Directory for logs.
        minutes: Duration.
        seed: Seed of faults and scenes.
        worker_kills: If not 0, only kill the inference worker, this number of times.
        domain_id: ROS domain; None: a free one.

    Returns:
        The measurements.

    Raises:
        UserError: The system does not start.

    """
    from sqap_vla_ros.evaluation.tasks import choose_tasks
    from sqap_vla_ros.simulation.loop import import_simulator

    import_simulator()
    tasks = choose_tasks(None, policy)
    with SimulatedSession(
        policy, output, tasks[0], seed, domain_id, tuple(remappings())
    ) as session:
        session.start(INJECTOR, 'sqap_vla_ros.ros.stand_ins.fault_injector_node')
        soak = Soak(session, tasks, seed, minutes)
        if worker_kills:
            faults = tuple(fault for fault in FAULTS if fault.name == WORKER_KILLED)
            soak.run(faults, worker_kills)
        else:
            soak.run(FAULTS)
        return soak.record
