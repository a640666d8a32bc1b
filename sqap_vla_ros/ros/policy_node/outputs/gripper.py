"""Output adapters of the gripper: a topic, or actions of control_msgs."""

from typing import Any

from rclpy.action import ActionClient
from rclpy.node import Node
from std_msgs.msg import Float64

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.robot_profile import GripperOutput
from sqap_vla_ros.ros.common.throttle import Throttle

LOG_PERIOD_S = 5.0
"""Shortest time between two lines about goals of one output."""


class GripperTopic:
    """Publishes std_msgs/Float64."""

    def __init__(self, node: Node, output: GripperOutput) -> None:
        self._publisher = node.create_publisher(Float64, output.topic, 1)

    def send(self, value: float) -> None:
        """Publish a value in the units of the gripper."""
        self._publisher.publish(Float64(data=value))


class GripperAction:
    """
    Sends control_msgs/GripperCommand goals (position m or rad, effort N or Nm).

    Nothing waits for a goal to end: a new value replaces it.

    Raises:
        UserError: control_msgs is not installed.
    """

    def __init__(self, node: Node, output: GripperOutput) -> None:
        self._node, self._output = node, output
        self._action = _action_type(self._name())
        self._client = ActionClient(node, self._action, output.topic)
        self._rejections = Throttle(LOG_PERIOD_S)

    def _name(self) -> str:
        return 'GripperCommand'

    @property
    def served(self) -> bool:
        """Whether somebody serves the action."""
        return self._client.server_is_ready()

    def send(self, value: float) -> bool:
        """Send a goal; returns False if nobody serves the action, which `GraphChecks` tells."""
        if not self.served:
            return False
        future = self._client.send_goal_async(self._goal(value))
        future.add_done_callback(lambda done: self._answered(value, done))
        return True

    def _answered(self, value: float, done: Any) -> None:
        rejected = done.exception() is None and not done.result().accepted
        if rejected and self._rejections.passes(''):
            self._node.get_logger().warning(
                f'gripper: the action {self._output.topic} rejects the goal {value:g}; compare '
                'open, closed and max_effort in gripper.outputs of the profile with its limits'
            )

    def _goal(self, value: float) -> Any:
        goal = self._action.Goal()
        goal.command.position = value
        goal.command.max_effort = self._output.max_effort or 0.0
        return goal


class ParallelGripperAction(GripperAction):
    """Sends control_msgs/ParallelGripperCommand goals, which name the joint."""

    def _name(self) -> str:
        return 'ParallelGripperCommand'

    def _goal(self, value: float) -> Any:
        goal = self._action.Goal()
        goal.command.name = [self._output.joint]
        goal.command.position = [value]
        if self._output.max_effort is not None:
            goal.command.effort = [self._output.max_effort]
        return goal


def _action_type(name: str) -> Any:
    try:
        import control_msgs.action as actions
    except ImportError:
        raise UserError(
            'gripper: the profile wants an action of control_msgs, which is not '
            'installed; install ros-$ROS_DISTRO-control-msgs, or use type: float64'
        ) from None
    if not hasattr(actions, name):
        raise UserError(f'gripper: this control_msgs has no {name}; use gripper_command') from None
    return getattr(actions, name)
