"""Asks MoveIt Servo in which unit it takes twists."""

from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

from sqap_vla_ros.profiles.notes import servo_node, SERVO_UNITS
from sqap_vla_ros.profiles.robot_profile import RobotProfile

PARAMETER = 'moveit_servo.command_in_type'


class ServoCheck:
    """
    Warns where MoveIt Servo takes commands without a unit, its default, and so scales them.

    Servo may start later than this node: `tick` asks each Servo once, when it is there.

    Args:
        node: Node that asks.
        profile: Robot profile.
    """

    def __init__(self, node: Node, profile: RobotProfile) -> None:
        self._node = node
        names = {
            output.topic.rpartition('/')[0] for output in profile.outputs if servo_node(output)
        }
        self._clients = {
            name: node.create_client(GetParameters, f'{name}/get_parameters')
            for name in sorted(names)
        }

    def tick(self) -> None:
        """Ask every Servo that is there and has not been asked."""
        for name, client in list(self._clients.items()):
            if client.service_is_ready():
                del self._clients[name]
                future = client.call_async(GetParameters.Request(names=[PARAMETER]))
                future.add_done_callback(lambda done, name=name: self._answered(name, done))

    def _answered(self, name: str, future: Any) -> None:
        response = future.result()
        units = response.values[0].string_value if response and response.values else ''
        if units and units != SERVO_UNITS:
            self._node.get_logger().warning(
                f'{name}: its parameter {PARAMETER} is {units!r}, expected {SERVO_UNITS!r}: it '
                'scales the commands, so that the arm moves at another speed than commanded'
            )
