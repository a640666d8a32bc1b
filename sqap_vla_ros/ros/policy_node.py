"""
The policy node: camera image and instruction in, end-effector twists out.

Threads: the executor's (callbacks, goals, diagnostics), the inference runner's, and the command
loop's. They meet in the `Controller`, which has a lock of its own.
"""
from collections import deque
import os
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger

from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import ProcessInference, ThreadInference
from sqap_vla_ros.inference.runner import Answer, InferenceRunner, Request
from sqap_vla_ros.msg import ActionChunk, InferenceStats, TokenSelection
from sqap_vla_ros.ros import parameters
from sqap_vla_ros.ros.command_loop import CommandLoop
from sqap_vla_ros.ros.diagnostics import (diagnostic_array, input_values, LatencyWindow,
                                          memory_mb)
from sqap_vla_ros.ros.goals import InstructionGoals
from sqap_vla_ros.ros.image_conversion import rgb_to_image
from sqap_vla_ros.ros.inputs import check_state_names, Inputs, POSE, Sample
from sqap_vla_ros.ros.instruction import clean_instruction, quoted
from sqap_vla_ros.ros.messages import (chunk_message, header, selection_message, stats_message)
from sqap_vla_ros.ros.overlay import draw_overlay
from sqap_vla_ros.ros.process import run_node

HOUSEKEEPING_S = 0.05
DIAGNOSTICS_S = 1.0
FINAL_HOLDS = 3
"""Hold commands sent after the arm was told to stop for good."""


class PolicyNode(LifecycleNode):
    """
    Lifecycle: configure loads the policy and tests it, activate lets commands out.

    Motion starts from a goal, from `~/resume`, or from an instruction on the topic where
    `start_on_instruction` is set; never from a latched message or a restart.
    """

    def __init__(self, **options):
        super().__init__('policy_node', **options)
        self.settings = parameters.declare(self)
        self.add_on_set_parameters_callback(self._set_parameters)
        self._instruction = ''
        self._ignored_instructions = 0
        self._controller: Controller | None = None
        self._goals = self._runner = self._loop = self._inputs = self._client = None
        self._answers: deque[Answer] = deque(maxlen=16)
        self._failures: deque[tuple[str, str]] = deque(maxlen=16)
        self._active = False
        self.failure = None
        """What ends the process, see `run_node`."""
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._state_publisher = self.create_publisher(String, '~/state', latched)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self._twist_publisher = self.create_publisher(TwistStamped, 'twist_command', 1)
        self._gripper_publisher = self.create_publisher(Float64, 'gripper_command', 1)
        self._chunk_publisher = self.create_publisher(ActionChunk, '~/action_chunk', 1)
        self._stats_publisher = self.create_publisher(InferenceStats, '~/inference_stats', 10)
        self._selection_publisher = self.create_publisher(TokenSelection, '~/token_selection', 1)
        self._overlay_publisher = self.create_publisher(Image, '~/overlay', 1)
        self.create_subscription(String, 'instruction', self._receive_instruction, 1)
        self.create_subscription(Bool, 'task_success', self._receive_success, 1)
        for name, command in (('hold', self._hold), ('resume', self._resume),
                              ('estop', self._estop), ('reset_estop', self._reset_estop)):
            self.create_service(Trigger, f'~/{name}', self._service(command))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(HOUSEKEEPING_S, self._keep_house, clock=steady)
        self.create_timer(DIAGNOSTICS_S, self._diagnose, clock=steady)
        self._told_state = None

    # Lifecycle

    def on_configure(self, _) -> TransitionCallbackReturn:
        """Load the policy in its worker, warm up, self-test; fails with one line in the log."""
        try:
            self._configure()
        except UserError as error:
            self.get_logger().error(f'cannot configure: {error}')
            self._release()
            return TransitionCallbackReturn.FAILURE
        info = self._client.info
        self.get_logger().info(
            f'policy {info.description.get("checkpoint")}: recipe {info.description["recipe"]}, '
            f'backend {info.description.get("backend")}, {info.warm_up_ms:.0f} ms an inference')
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _) -> TransitionCallbackReturn:
        """Let commands out; the arm does not move yet."""
        self._active = True
        self._controller.activate()
        self._loop = CommandLoop(self._command, self.settings['command_rate_hz'])
        self._loop.start()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, _) -> TransitionCallbackReturn:
        """Stop along the stop profile, send a final hold, and command no more."""
        self._stop_commanding('deactivated')
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _) -> TransitionCallbackReturn:
        """Unload the policy."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _) -> TransitionCallbackReturn:
        """Stop, send a final hold, unload."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, _) -> TransitionCallbackReturn:
        """Stop and unload; the node can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self):
        """Stop the arm and let go of everything; idempotent."""
        self._stop_commanding('shutdown')
        self._release()

    def _configure(self):
        settings = self.settings
        if not settings['policy']:
            raise UserError('parameter policy is empty; set it to the directory of a policy, as '
                            'made by `sqap_vla compress`')
        policy = os.path.expanduser(settings['policy'])
        if settings['inference_process']:
            self._client = ProcessInference(policy, settings['device'], settings['threads'],
                                            settings['inference_deadline_s'])
        else:
            self._client = ThreadInference(policy, settings['device'], settings['threads'])
        self._client.start()
        spec = self._client.info.spec
        check_state_names(spec)
        self._controller = self._make_controller(spec)
        self._latencies = LatencyWindow()
        self._inputs = Inputs(self, settings, spec, self._receive_input)
        self._goals = InstructionGoals(self, settings, self)
        self._runner = InferenceRunner(self._client, self._next_request, self._answered,
                                       self._failed, 1 / settings['inference_rate_hz'])
        self._runner.start()

    def _release(self):
        if self._goals is not None:
            self._goals.close('the node is being cleaned up')
        if self._inputs is not None:
            self._inputs.close()
        if self._runner is not None:
            self._runner.stop()
        elif self._client is not None:
            self._client.close()
        self._goals = self._inputs = self._runner = self._client = self._controller = None

    def _stop_commanding(self, reason):
        if not self._active:
            return
        self._active = False
        self._controller.deactivate(reason)
        limit_s = time.monotonic() + 3.0
        while not self._controller.still and time.monotonic() < limit_s:
            time.sleep(0.01)
        self._loop.stop()
        for _ in range(FINAL_HOLDS):
            self._publish_twist(np.zeros(3), np.zeros(3))
        self._loop = None
