"""
The simulated arm as a ROS node: it publishes camera and state, and takes twists and the gripper.

Callbacks only check and store commands; physics, rendering and publishing happen in the thread
of `SimulationLoop`. Stamps are of the node's clock, or simulation time if it publishes /clock.
"""

from collections import Counter
from collections.abc import Mapping
import math
import sys
from typing import Any, TYPE_CHECKING

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.common.qos import subscribe
from sqap_vla_ros.ros.common.setting import Setting
from sqap_vla_ros.ros.common.throttle import Throttle
from sqap_vla_ros.ros.sim_arm.publisher import BASE_FRAME, SimArmPublisher
from sqap_vla_ros.simulation.loop import import_simulator, Pace, SimulationLoop

if TYPE_CHECKING:
    from sqap_vla_ros.simulation.tasks import Task

MAX_COMMAND_AGE_S = 0.2
COMMAND_QOS = QoSProfile(depth=1)
LOG_PERIOD_S = 2.0


class SimArmNode(Node):
    """The node; its constructor raises UserError or a parameter exception of rclpy."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__('sim_arm_node', **keywords)
        try:
            self._set_up()
        except BaseException:
            self.destroy_node()  # there is no other reference to it
            raise

    def _set_up(self) -> None:
        arm, tasks = import_simulator()
        self._tasks = tasks.TASKS
        self._loop: SimulationLoop | None = None
        self._values: dict[str, Any] = {}
        self.rejected: Counter[str] = Counter()
        """Commands that were not executed, by topic and reason."""
        self._rejections = Throttle(LOG_PERIOD_S)
        self.add_on_set_parameters_callback(self._set_parameters)
        for setting in settings_for(self._tasks):
            self._values[setting.name] = self.declare_parameter(
                setting.name, setting.default, setting.descriptor()
            ).value
        self._publisher = SimArmPublisher(self, arm.JOINTS, self._values['publish_clock'])
        self._loop = SimulationLoop(
            self._publisher,
            self._values['task'],
            self._values['seed'],
            self._values['image_size'],
            _pace(self._values),
        )
        subscribe(self, TwistStamped, 'twist_command', self._on_twist, COMMAND_QOS)
        subscribe(self, Float64, 'gripper_command', self._on_gripper, COMMAND_QOS)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self._loop.start()

    @property
    def failure(self) -> Exception | None:
        """The exception that has ended the simulation, if any."""
        return None if self._loop is None else self._loop.error

    def close(self) -> None:
        """Stop the simulation and free its renderer."""
        if self._loop is not None:
            self._loop.stop()

    def _set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Accept or refuse parameters that are set together; some take effect at once."""
        values = dict(self._values)
        for parameter in parameters:
            if parameter.name == 'task' and parameter.value not in self._tasks:
                return SetParametersResult(
                    successful=False,
                    reason=f'task: there is no {parameter.value[:60]!a}; '
                    f'expected one of {", ".join(self._tasks)}',
                )
            if isinstance(parameter.value, float) and not math.isfinite(parameter.value):
                return SetParametersResult(
                    successful=False,
                    reason=f'{parameter.name}: {parameter.value} is not a finite number',
                )
            values[parameter.name] = parameter.value
        self._values = values
        if self._loop is not None:
            self._loop.pace = _pace(values)
        return SetParametersResult(successful=True)

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        velocity = np.array([linear.x, linear.y, linear.z])
        turn = np.array([angular.x, angular.y, angular.z])
        if message.header.frame_id != BASE_FRAME:
            self._reject(
                'twist_command',
                'frame',
                f'frame_id is {message.header.frame_id[:60]!a}, expected {BASE_FRAME!r}',
            )
        elif not (np.isfinite(velocity).all() and np.isfinite(turn).all()):
            self._reject('twist_command', 'not_finite', 'velocity is NaN or infinite')
        elif np.any(turn):
            self._reject(
                'twist_command',
                'angular',
                'angular velocity is not zero; this arm keeps its orientation',
            )
        elif self._age_s(message.header.stamp) > MAX_COMMAND_AGE_S:
            age_s = self._age_s(message.header.stamp)
            self._reject(
                'twist_command',
                'old',
                f'stamp is {age_s:.2f} s old, expected at most '
                f'{MAX_COMMAND_AGE_S:g} s; stamp commands with the time of publishing, '
                'on the clock that this node uses',
            )
        elif self._loop is not None:
            self._loop.command_velocity(velocity)

    def _on_gripper(self, message: Float64) -> None:
        if math.isfinite(message.data):
            if self._loop is not None:
                self._loop.command_gripper(message.data)
        else:
            self._reject(
                'gripper_command',
                'not_finite',
                f'{message.data} is not a number from 0 (open) to 1 (closed)',
            )

    def _age_s(self, stamp: Time) -> float:
        """Return the age of a command; a zero stamp means now, as in ros2_control."""
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if stamp_ns == 0:
            return 0.0
        now_ns = (
            self._publisher.simulated_ns
            if self._publisher.publishes_clock
            else self.get_clock().now().nanoseconds
        )
        return (now_ns - stamp_ns) / 1e9

    def _reject(self, topic: str, reason: str, text: str) -> None:
        self.rejected[f'{topic}: {reason}'] += 1
        if self._rejections.passes(topic):
            self.get_logger().warning(
                f'{topic} rejected: {text} ({self.rejected.total()} commands rejected so far)'
            )

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # Waiting here keeps commands for the last episode out of the new one: no command is
        # executed before the scene is ready.
        task, seed = self._values['task'], self._values['seed']
        response.success = self._loop is not None and self._loop.reset(task, seed)
        if response.success:
            response.message = self._tasks[task].instructions[0]
            self.get_logger().info(f'reset: task {task}, seed {seed}')
        else:
            response.message = f'the simulation did not start task {task}; see the log of the node'
        return response


def _pace(values: Mapping[str, Any]) -> Pace:
    return Pace(values['real_time_factor'], values['camera_rate_hz'], values['state_rate_hz'])


def settings_for(tasks: Mapping[str, 'Task']) -> tuple[Setting, ...]:
    """Return the parameters of the node; `tasks` is `simulation.tasks.TASKS`."""
    return (
        Setting(
            'task',
            next(iter(tasks)),
            f'task, which implies the scene, from the next ~/reset on: {", ".join(tasks)}',
        ),
        Setting(
            'seed',
            0,
            'determines the positions of objects and arm, from the next ~/reset on',
            0,
            2**31 - 1,
        ),
        Setting('real_time_factor', 1.0, 'simulated seconds per second', 0.05, 10.0),
        Setting('camera_rate_hz', 20.0, 'images per simulated second', 0.5, 60.0),
        Setting(
            'state_rate_hz',
            50.0,
            'poses, joint states and success per simulated second',
            1.0,
            200.0,
        ),
        Setting(
            'image_size', 192, 'rows and columns of the image, pixels', 32, 640, read_only=True
        ),
        Setting(
            'publish_clock',
            False,
            'publish /clock and stamp with simulation time; the other nodes need use_sim_time',
            read_only=True,
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node('sim_arm_node', SimArmNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
