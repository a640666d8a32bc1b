"""Robot, fault injector, policy node and user over real DDS; every command is audited."""

from contextlib import contextmanager
import os
from pathlib import Path
import sys
import threading
import time
from unittest.mock import patch

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.control.audit import CommandAudit
from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.limits import MAX_PERIOD_S, MotionLimits
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.ros.common.qos import LATCHED
from sqap_vla_ros.ros.stand_ins.fault_injector_node import FaultInjectorNode, remappings, STREAMS
from sqap_vla_ros.system.child_process import ChildProcess, isolated_environment
from sqap_vla_ros.system.process_usage import children

from support.circling import DEADLINE_S, FAULT_FILE, OBSERVATION_TIMEOUT_S, SPEED_M_S
from support.dds import client_node, wait_until
from support.robot import Robot

TESTS = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0
JITTER_S = 0.0005
"""Largest error of the time between two commands, taken from their stamps."""
SIMULATED_TIME_JITTER_S = 0.04
"""The same for stamps of simulated time, which /clock publishes at 100 Hz."""
TRANSPORT = {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}
"""Not shared memory: with Fast DDS 2 it may lose messages after a process was killed."""
NO_FAULTS = {**dict.fromkeys(STREAMS, 'none'), 'clock': 'none'}


class SimulatedRobot:
    """The simulated arm in its own process, in place of `robot.Robot`."""

    def __init__(self, client, directory, environment):
        self._client = client
        self._process = ChildProcess(
            'sim_arm_node',
            [sys.executable, '-m', 'sqap_vla_ros.ros.sim_arm.node'],
            directory / 'sim_arm_node.log',
            environment,
        )
        self.instruction = client.create_publisher(String, 'instruction', 1)

    def rest(self):
        """Put the arm and the objects back."""
        answer = self._client.call(Trigger, 'sim_arm_node/reset', Trigger.Request(), PATIENCE_S)
        assert answer.success, answer.message

    def close(self):
        self._process.stop()


class StandInRobot(Robot):
    """Publishes the topics of a robot."""

    def rest(self):
        """Lead it home."""
        self.go_home()


class Rig:
    """A policy node whose inputs pass through the fault injector. Times are ns, system clock."""

    def __init__(self, client, injector, robot, process, fault_file, jitter_s):
        self.client, self.injector, self.robot = client, injector, robot
        self.process, self._fault_file = process, fault_file
        self.audit = CommandAudit(MotionLimits(), jitter_s, MAX_PERIOD_S)
        self.twists = []
        """(stamp_ns, speed_m_s) of every command."""
        self._answered = 'no service called'
        self.violations = []
        """Findings of the audit, each with times (ms) and speeds (m/s) of the last commands."""
        client.create_subscription(TwistStamped, 'twist_command', self._take_twist, 100)
        self.states = client.listen(String, 'policy_node/state', LATCHED)
        self.diagnostics = client.listen(DiagnosticArray, '/diagnostics')
        self.action = ActionClient(client, ExecuteInstruction, 'execute_instruction')

    # What the user does

    def service(self, name):
        answer = self.client.call(Trigger, f'policy_node/{name}', Trigger.Request())
        self._answered = f'{name}: {answer.success}, {answer.message}'
        return answer

    def lifecycle(self, transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return self.client.call(
            ChangeState, 'policy_node/change_state', request, PATIENCE_S
        ).success

    def begin_lifecycle(self, transition):
        """Ask for a transition; returns the future of the answer."""
        client = self.client.create_client(ChangeState, 'policy_node/change_state')
        assert client.wait_for_service(PATIENCE_S)
        request = ChangeState.Request()
        request.transition.id = transition
        return client.call_async(request)

    def goal(self, instruction='lead it around', seconds=60):
        assert self.action.wait_for_server(PATIENCE_S)
        goal = ExecuteInstruction.Goal(instruction=instruction)
        goal.max_duration.sec = seconds
        future = self.action.send_goal_async(goal)
        assert wait_until(future.done, PATIENCE_S, 0.005), self.explain()
        return future.result()

    def result(self, handle):
        future = handle.get_result_async()
        assert wait_until(future.done, PATIENCE_S, 0.005), self.explain()
        return future.result().result

    def start(self):
        """
        End all faults, resume, and wait until the arm moves at the circle's speed.

        Resumes again if the node holds meanwhile: a hung worker is detected only at its deadline.
        """
        self.repair()
        self.service('reset_estop')
        if self.state().startswith('RUNNING'):
            self.service('hold')
        self.robot.rest()

        def resumed():
            self.robot.instruction.publish(String(data='lead it around'))
            return self.service('resume').success or self.state().startswith('RUNNING')

        def ran(known):  # it may hold again before the state is read
            return any(message.data.startswith('RUNNING') for message in self.states[known:])

        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            known = len(self.states)
            assert wait_until(resumed, PATIENCE_S, 0.1), self.explain()
            begun = len(self.twists)
            wait_until(lambda known=known: ran(known), 5, 0.01)
            wait_until(lambda begun=begun: self._cruising(begun) or self.held(), PATIENCE_S, 0.01)
            if self._cruising(begun):
                return
            assert time.monotonic() < deadline_s, self.explain()

    def cruise(self):
        """Wait until the arm moves at the circle's speed."""
        begun = len(self.twists)
        assert wait_until(lambda: self._cruising(begun), PATIENCE_S, 0.01), self.explain()

    def held(self):
        return self.state().startswith('HOLDING')

    def _cruising(self, begun):
        last = self.twists[begun:][-8:]
        return len(last) == 8 and all(v > 0.98 * SPEED_M_S for _, v in last)

    # Faults

    def inject(self, **faults):
        """Break streams and return when the last intact message of the first of them passed."""
        self.injector.set(**faults)
        return self.injector.passed_ns.get(next(iter(faults)), time.time_ns())

    def break_policy(self, fault):
        """Let the policy fail at its next inference and return the time now."""
        now_ns = time.time_ns()
        self._fault_file.write_text(fault, 'utf-8')
        return now_ns

    def repair(self):
        """End all faults."""
        self._fault_file.write_text('', 'utf-8')
        self.injector.set(**NO_FAULTS)

    # What can be seen

    def state(self):
        return self.states[-1].data if self.states else ''

    def wait_state(self, prefix):
        assert wait_until(lambda: self.state().startswith(prefix), PATIENCE_S, 0.01), (
            self.explain()
        )

    def stop_began(self, after_ns):
        """Return the stamp of the first command after `after_ns` that is slower."""

        def first():
            return next(
                (
                    stamp
                    for stamp, speed in list(self.twists)
                    if stamp > after_ns and speed < 0.93 * SPEED_M_S
                ),
                None,
            )

        assert wait_until(lambda: first() is not None, PATIENCE_S, 0.005), self.explain()
        return first()

    def stop_seen(self, count):
        """Wait for a slower command after the first `count`; return the time, steady clock, s."""
        assert wait_until(
            lambda: any(v < 0.93 * SPEED_M_S for _, v in self.twists[count:]), PATIENCE_S, 0.002
        ), self.explain()
        return time.monotonic()

    def stopped(self):
        """Wait until standstill is commanded, and assert that it lasts 0.3 s."""

        def still():
            return len(self.twists) > 3 and all(v == 0 for _, v in self.twists[-3:])

        assert wait_until(still, PATIENCE_S, 0.01), self.explain()
        count = len(self.twists)
        time.sleep(0.3)
        assert all(v == 0 for _, v in self.twists[count:]), self.explain()

    def goes_on(self, seconds=1.0):
        """Assert that the arm keeps moving at its speed."""
        begun_ns = time.time_ns()
        time.sleep(seconds)
        slow = [v for stamp, v in self.twists if stamp > begun_ns and v < 0.93 * SPEED_M_S]
        assert self.state().startswith('RUNNING') and not slow, self.explain()

    def wait_diagnostic(self, text):
        """Wait for a diagnostic of the node with `text`; its count, if it has one, is not 0."""
        begun = len(self.diagnostics)

        def told():
            return any(
                text in status.message
                or any(text in v.key and v.value not in ('', '0') for v in status.values)
                for array in self.diagnostics[begun:]
                for status in array.status
            )

        assert wait_until(told, PATIENCE_S, 0.01), (text, self.explain())

    def worker_pid(self):
        return next(iter(children(self.process.pid)), None)

    def log(self):
        return self.process.log.read_text('utf-8', 'replace')

    def healthy(self):
        """Assert that the process runs and its log has no tracebacks, floods or control codes."""
        log = self.log()
        assert self.process.status is None and 'Traceback' not in log, log[-3000:]
        assert max(map(len, log.splitlines()), default=0) < 1200 and '\x1b[2J' not in log

    def explain(self):
        speeds = [round(v, 4) for _, v in self.twists[-12:]]
        told = [status.message for array in self.diagnostics[-4:] for status in array.status]
        return (
            f'state {self.state()!r}; last answer {self._answered!r}; diagnostics {told}; '
            f'last speeds {speeds}; faults {self._fault_file.read_text()!r}; '
            f'log: {self.log()[-1500:]}'
        )

    def _take_twist(self, message):
        stamp_ns = stamp_to_ns(message.header.stamp)
        v, w = message.twist.linear, message.twist.angular
        linear = np.array([v.x, v.y, v.z])
        before_ns = self.twists[-1][0] if self.twists else stamp_ns
        self.twists.append((stamp_ns, float(np.linalg.norm(linear))))
        period_s = (stamp_ns - before_ns) * 1e-9
        if period_s < 0 or (period_s > 0.5 and 'clock' in self.state()):
            self.audit.reset()  # a test has moved the clock
        found = self.audit.check(Command(linear, np.array([w.x, w.y, w.z])), period_s)
        if found:
            self.violations.append(
                (
                    found,
                    [
                        (round((stamp - stamp_ns) * 1e-6, 2), speed)
                        for stamp, speed in self.twists[-5:]
                    ],
                )
            )


def start_policy(directory, environment, *arguments):
    """Start the node and return its process."""
    command = [
        sys.executable,
        '-m',
        'support.circling_policy_node',
        '--ros-args',
        '-p',
        'policy:=circle',
        '-p',
        'autostart:=true',
        '-p',
        f'observation_timeout_s:={OBSERVATION_TIMEOUT_S}',
        '-p',
        f'inference_deadline_s:={DEADLINE_S}',
        '-p',
        f'black_box_directory:={directory / "black_box"}',
        *arguments,
    ]
    number = len(list(directory.glob('policy_node*.log')))
    return ChildProcess(
        'policy_node', command, directory / f'policy_node{number}.log', environment
    )


@contextmanager
def running(directory, domain_id, simulated, clock=False):
    """Start everything and yield a rig whose policy node is READY."""
    fault_file = directory / 'fault'
    fault_file.write_text('', 'utf-8')
    environment = isolated_environment(domain_id)
    environment |= {FAULT_FILE: str(fault_file), **TRANSPORT}
    environment['PYTHONPATH'] = ':'.join(
        [str(TESTS), str(TESTS.parent), environment.get('PYTHONPATH', '')]
    )
    arguments = remappings(clock) + (['-p', 'use_sim_time:=true'] if clock else [])
    process = start_policy(directory, environment, *arguments)
    try:
        with (
            patch.dict(os.environ, TRANSPORT),
            client_node(domain_id) as client,
            injector_node(client, clock) as injector,
        ):
            robot = (
                SimulatedRobot(client, directory, environment)
                if simulated
                else StandInRobot(client)
            )
            try:
                rig = Rig(
                    client,
                    injector,
                    robot,
                    process,
                    fault_file,
                    SIMULATED_TIME_JITTER_S if clock else JITTER_S,
                )
                rig.environment = environment
                rig.restart = lambda *more: start_policy(directory, environment, *more, *arguments)
                rig.wait_state('READY')
                yield rig
            finally:
                robot.close()
                rig.process.stop()
    finally:
        process.stop()


@contextmanager
def injector_node(client, clock):
    """Run the fault injector in a thread of this process."""
    from rclpy.parameter import Parameter

    injector = FaultInjectorNode(
        context=client.context, parameter_overrides=[Parameter('publish_clock', value=clock)]
    )
    executor = SingleThreadedExecutor(context=client.context)
    executor.add_node(injector)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        yield injector
    finally:
        executor.shutdown()
        thread.join(5)
        injector.destroy_node()
