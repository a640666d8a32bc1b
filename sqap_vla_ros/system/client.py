"""Client of the simulated arm and the policy node: resets, sends goals, measures, records."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
import math
import threading
import time
from typing import Any

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rcl_interfaces.srv import SetParametersAtomically
import rclpy
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.images.conversion import image_to_rgb
from sqap_vla_ros.msg import InferenceStats

SIMULATION, POLICY = 'sim_arm_node', 'policy_node'
CALL_TIMEOUT_S = 60.0
FRAME_PERIOD_S = 0.1
"""Time between two frames of the recording."""
GRACE_S = 20.0
"""Time to wait for a result beyond the limit of the goal itself."""


@dataclass(frozen=True)
class Attempt:
    """One goal, measured from outside the policy node."""

    task: str
    instruction: str
    seed: int
    succeeded: bool
    reason: str
    seconds: float
    command_rate_hz: float
    """Rate of twist_command during the goal; 0 with fewer than two messages."""
    inferences: int
    inference_p50_ms: float | None
    inference_p95_ms: float | None
    tokens: int
    """Visual tokens before pruning."""
    tokens_kept: float
    """Mean over the inferences."""
    frames: list[tuple[np.ndarray, np.ndarray]]
    """Camera image and newest overlay, uint8 RGB, every FRAME_PERIOD_S."""


class SystemClient:
    """
    A ROS node in a thread of its own. Methods block, and raise UserError if no answer comes.

    Args:
        domain_id: ROS domain.
        check: Called while waiting; raises if waiting has become useless.

    """

    def __init__(self, domain_id: int, check: Callable[[], None]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._running = False
        self._times_s: list[float] = []
        self._stats: list[InferenceStats] = []
        self._frames: list[tuple[np.ndarray, np.ndarray]] = []
        self._overlay: np.ndarray | None = None
        self._last_frame_s = -math.inf
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._succeeded = False
        self._description: dict[str, str] = {}
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = rclpy.create_node('demo', context=self._context)
        for kind, topic, take in (
            (Image, 'camera/image_raw', self._take_image),
            (Image, f'{POLICY}/overlay', self._take_overlay),
            (TwistStamped, 'twist_command', self._take_twist),
            (InferenceStats, f'{POLICY}/inference_stats', self._take_stats),
            (Bool, 'task_success', self._take_success),
            (DiagnosticArray, '/diagnostics', self._take_diagnostics),
        ):
            self._node.create_subscription(kind, topic, take, QoSProfile(depth=5))
        self._goals = ActionClient(self._node, ExecuteInstruction, 'execute_instruction')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, name='demo_client', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Destroy the node and end its thread."""
        self._closing = True
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def listen(
        self, kind: type, topic: str, callback: Callable, qos: QoSProfile | int = 100
    ) -> None:
        """Call back for every message of a topic, in the client's thread."""
        self._node.create_subscription(kind, topic, callback, qos)

    def publisher(self, kind: type, topic: str) -> Publisher:
        """Make a publisher that exists until the client is closed."""
        return self._node.create_publisher(kind, topic, 1)

    def trigger(self, service: str) -> Trigger.Response:
        """Call a service of type Trigger."""
        return self._call(Trigger, service, Trigger.Request())

    def set_parameters(self, node: str, **values: Any) -> None:
        """Set parameters of a node, all or none. Raises UserError if the node refuses."""
        parameters = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        result = self._call(
            SetParametersAtomically,
            f'{node}/set_parameters_atomically',
            SetParametersAtomically.Request(parameters=parameters),
        ).result
        if not result.successful:
            raise UserError(f'{node}: {result.reason}')

    def wait_for_arm(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Wait until the simulated arm sends images."""
        self._wait(lambda: self._counts['image'] > 0, timeout_s, 'camera/image_raw: no image came')

    def start_policy(self, timeout_s: float = 180.0) -> None:
        """Configure and activate the policy node."""
        for transition, what in (
            (Transition.TRANSITION_CONFIGURE, 'configured'),
            (Transition.TRANSITION_ACTIVATE, 'activated'),
        ):
            request = ChangeState.Request(transition=Transition(id=transition))
            if not self._call(ChangeState, f'{POLICY}/change_state', request, timeout_s).success:
                raise UserError(f'{POLICY} could not be {what}')

    def reset(self, task: str, seed: int) -> str:
        """Start an episode and wait for its first images; returns the instruction."""
        self.set_parameters(SIMULATION, task=task, seed=seed)
        answer = self.trigger(f'{SIMULATION}/reset')
        if not answer.success:
            raise UserError(f'{SIMULATION}: {answer.message}')
        images = self._counts['image']
        self._wait(
            lambda: self._counts['image'] >= images + 3 and not self._succeeded,
            CALL_TIMEOUT_S,
            'camera/image_raw: no image came after the reset',
        )
        return answer.message

    def execute(self, task: str, instruction: str, seed: int, limit_s: float) -> Attempt:
        """Send a goal, wait for its result, and measure in the meantime."""
        self._wait(
            self._goals.server_is_ready, CALL_TIMEOUT_S, 'execute_instruction: no action server'
        )
        goal = ExecuteInstruction.Goal(instruction=instruction, max_duration=_duration(limit_s))
        self._record(True)
        try:
            handle = self._ask(
                lambda: self._goals.send_goal_async(goal),
                CALL_TIMEOUT_S,
                'execute_instruction: no answer to a goal',
            )
            if not handle.accepted:
                return self._attempt(task, instruction, seed, False, 'goal rejected', 0.0)
            try:
                result = self._ask(
                    handle.get_result_async, limit_s + GRACE_S, 'execute_instruction: no result'
                ).result
            except UserError:
                handle.cancel_goal_async()
                raise
        finally:
            self._record(False)
        succeeded = result.error_code == ExecuteInstruction.Result.SUCCEEDED
        seconds = result.duration.sec + result.duration.nanosec / 1e9
        return self._attempt(task, instruction, seed, succeeded, result.reason, seconds)

    def policy_description(self, timeout_s: float = 10.0) -> dict[str, str]:
        """Return the description of the policy from /diagnostics."""
        self._wait(
            lambda: 'parameter_bytes' in self._description,
            timeout_s,
            '/diagnostics: the policy node does not describe its policy',
        )
        return dict(self._description)

    def _attempt(
        self,
        task: str,
        instruction: str,
        seed: int,
        succeeded: bool,
        reason: str,
        seconds: float,
    ) -> Attempt:
        with self._lock:
            times_s, stats, frames = self._times_s, self._stats, self._frames
        rate_hz = 0.0
        if len(times_s) > 1:
            rate_hz = (len(times_s) - 1) / (times_s[-1] - times_s[0])
        p50 = p95 = None
        if stats:
            p50, p95 = map(float, np.percentile([s.total_latency_ms for s in stats], [50, 95]))
        return Attempt(
            task,
            instruction,
            seed,
            succeeded,
            reason,
            seconds,
            rate_hz,
            len(stats),
            p50,
            p95,
            stats[-1].tokens_in if stats else 0,
            float(np.mean([s.tokens_kept for s in stats])) if stats else 0.0,
            frames,
        )

    def _record(self, on: bool) -> None:
        with self._lock:
            if on:
                self._times_s, self._stats, self._frames = [], [], []
                self._overlay, self._last_frame_s = None, -math.inf
            self._running = on

    def _take_image(self, message: Image) -> None:
        self._counts['image'] += 1
        now_s = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        with self._lock:
            due = self._running and now_s - self._last_frame_s >= FRAME_PERIOD_S - 1e-3
            if due:
                self._last_frame_s = now_s
                image = image_to_rgb(message)
                overlay = image // 4 if self._overlay is None else self._overlay
                self._frames.append((image, overlay))

    def _take_overlay(self, message: Image) -> None:
        overlay = image_to_rgb(message)
        with self._lock:
            self._overlay = overlay

    def _take_twist(self, _: TwistStamped) -> None:
        with self._lock:
            if self._running:
                self._times_s.append(time.monotonic())

    def _take_stats(self, message: InferenceStats) -> None:
        with self._lock:
            if self._running:
                self._stats.append(message)

    def _take_success(self, message: Bool) -> None:
        self._succeeded = message.data

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if POLICY in status.name:
                self._description = {value.key: value.value for value in status.values}

    def _call(self, kind: type, name: str, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        client = self._node.create_client(kind, name)
        try:
            self._wait(client.service_is_ready, CALL_TIMEOUT_S, f'{name}: no such service')
            future = client.call_async(request)
            self._wait(future.done, timeout_s, f'{name}: no answer within {timeout_s:g} s')
            return future.result()
        finally:
            self._node.destroy_client(client)

    def _ask(self, send: Callable[[], Any], timeout_s: float, complaint: str) -> Any:
        # Sent from the thread of the executor: rclpy's action client loses an answer that another
        # thread receives before the request is registered.
        sent = self._executor.create_task(send)
        self._wait(sent.done, timeout_s, complaint)
        answer = sent.result()
        self._wait(answer.done, timeout_s, complaint)
        return answer.result()

    def _wait(self, condition: Callable[[], object], timeout_s: float, complaint: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline_s:
                raise UserError(complaint)
            time.sleep(0.02)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except Exception:
            # On a busy machine the node may be gone before the executor has noticed its end.
            if not self._closing:
                raise


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(sec=whole, nanosec=round((seconds - whole) * 1e9))
