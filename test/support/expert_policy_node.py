"""
Stand-in for the policy node: the same interfaces, driven by the scripted expert.

It rebuilds the scene from task and seed and observes the arm over ROS only. The environment
variable BEHAVIOUR makes it fail: 'idle' does nothing, 'broken' cannot be configured, 'crash' dies
in the first goal, 'stubborn' moves until it is killed.
"""

from contextlib import suppress
import os
import signal
import sys
import time
from types import SimpleNamespace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rcl_interfaces.srv import GetParameters
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.action import ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float64

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.msg import InferenceStats
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import expert_action
from sqap_vla_ros.system.child_process import wait_until

PERIOD_S = 0.02


class ExpertPolicyNode(LifecycleNode):
    """A lifecycle node with the interfaces of the policy node that the demonstration uses."""

    def __init__(self):
        super().__init__('policy_node')
        group = ReentrantCallbackGroup()
        self.behaviour = os.environ.get('BEHAVIOUR', 'expert')
        self.declare_parameter('policy', '')
        self.position_m, self.succeeded, self.arms = None, False, {}
        self.twist = self.create_publisher(TwistStamped, 'twist_command', 1)
        self.gripper = self.create_publisher(Float64, 'gripper_command', 1)
        self.stats = self.create_publisher(InferenceStats, '~/inference_stats', 10)
        self.overlay = self.create_publisher(Image, '~/overlay', 1)
        self.diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self.parameters = self.create_client(
            GetParameters, 'sim_arm_node/get_parameters', callback_group=group
        )
        self.create_subscription(
            PoseStamped, 'end_effector_pose', self.on_pose, 1, callback_group=group
        )
        self.create_subscription(Bool, 'task_success', self.on_success, 1, callback_group=group)
        self.create_subscription(Image, 'camera/image_raw', self.on_image, 1, callback_group=group)
        self.create_timer(0.5, self.diagnose, callback_group=group)
        self.server = ActionServer(
            self, ExecuteInstruction, 'execute_instruction', self.execute, callback_group=group
        )

    def on_configure(self, _):
        if self.behaviour == 'broken':
            self.get_logger().error('cannot configure: model.safetensors is truncated')
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_pose(self, message):
        p = message.pose.position
        self.position_m = np.array([p.x, p.y, p.z])

    def on_success(self, message):
        self.succeeded = message.data

    def on_image(self, message):
        self.overlay.publish(message)

    def diagnose(self):
        values = {
            'parameter_bytes': '2000000',
            'float_parameter_bytes': '7000000',
            'recipe': 'none: scripted expert',
        }
        status = DiagnosticStatus(
            name='/policy_node: policy',
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        self.diagnostics.publish(DiagnosticArray(status=[status]))

    def scene(self):
        task, seed = self.ask_for_scene().values
        arm = self.arms.setdefault(task.string_value, SimulatedArm(task.string_value))
        arm.reset(seed=seed.integer_value)
        return arm

    def ask_for_scene(self):
        # A request is lost while this process has not discovered the service, so it is repeated.
        while True:
            future = self.parameters.call_async(GetParameters.Request(names=['task', 'seed']))
            if wait_until(future.done, 2.0, 0.01):
                return future.result()
            self.parameters.remove_pending_request(future)

    def command(self, velocity):
        message = TwistStamped()
        message.header.frame_id = 'base'
        message.header.stamp = self.get_clock().now().to_msg()
        t = message.twist.linear
        t.x, t.y, t.z = map(float, velocity)
        self.twist.publish(message)

    def execute(self, handle):
        if self.behaviour == 'crash':
            print('policy_node: out of memory', file=sys.stderr, flush=True)
            os._exit(3)
        arm = self.scene()
        started_s = time.monotonic()
        limit = handle.request.max_duration
        steps = 0
        while not self.succeeded and time.monotonic() - started_s < limit.sec:
            action = np.zeros(4)
            if self.behaviour == 'expert':
                action = expert_action(
                    SimpleNamespace(
                        end_effector_m=self.position_m.copy(), data=arm.data, task=arm.task
                    )
                )
            self.command(action[:3])
            self.gripper.publish(Float64(data=float(action[3])))
            if steps % 10 == 0:
                self.stats.publish(
                    InferenceStats(
                        total_latency_ms=20.0 + steps / 10, tokens_in=144, tokens_kept=86
                    )
                )
            steps += 1
            time.sleep(PERIOD_S)
        self.command(np.zeros(3))
        result = ExecuteInstruction.Result(steps=steps)
        result.duration.sec, result.duration.nanosec = divmod(
            round((time.monotonic() - started_s) * 1e9), 1_000_000_000
        )
        if self.succeeded:
            handle.succeed()
            result.reason = 'success_topic'
        else:
            handle.abort()
            result.error_code, result.reason = ExecuteInstruction.Result.TIMEOUT, 'max_duration'
        return result


def main():
    """Run until a signal."""
    rclpy.init()
    if os.environ.get('BEHAVIOUR') == 'stubborn':
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    node = ExpertPolicyNode()
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    # RCLError: the context was shut down by rclpy's signal handler during a publish.
    with suppress(KeyboardInterrupt, ExternalShutdownException, RCLError):
        executor.spin()


if __name__ == '__main__':
    main()
