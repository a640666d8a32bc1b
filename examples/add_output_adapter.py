"""
Add an output for a controller that the package does not know, from outside the package.

    python examples/add_output_adapter.py

commands a standing and a moving twist through the new output and prints what a subscriber gets.

    python examples/add_output_adapter.py --run-node --ros-args -p profile:=my_arm.yaml

runs the policy node with the new output, which the profile may name: `{type: twist, topic: ...}`.
The output is geometry_msgs/Twist without a stamp, which many simulators and bases take.
"""

import argparse
from pathlib import Path
import tempfile
import time

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist
import rclpy
from rclpy.node import Node

from sqap_vla_ros import find_resource
from sqap_vla_ros.control.command import Command
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import Output, RobotProfile
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs
from sqap_vla_ros.ros.policy_node.outputs.registry import register_output

TIMEOUT_S = 20.0


class UnstampedTwistOutput:
    """
    Publishes geometry_msgs/Twist, m/s and rad/s in the base frame.

    The message has no stamp, so the controller cannot tell a late command from a new one: it needs
    a command timeout of its own.
    """

    def __init__(self, node: Node, output: Output, profile: RobotProfile) -> None:
        self._publisher = node.create_publisher(Twist, output.topic, 1)

    def publish(self, command: Command, stamp: Time) -> None:
        """Publish one command; limits have been applied."""
        message = Twist()
        message.linear.x, message.linear.y, message.linear.z = map(float, command.linear_m_s)
        message.angular.x, message.angular.y, message.angular.z = map(float, command.angular_rad_s)
        self._publisher.publish(message)


def profile_with_new_output() -> RobotProfile:
    """Read the profile of the simulated arm, with `type: twist` in place of its own output."""
    text = find_resource('config/robots/sim_sawyer.yaml').read_text('utf-8')
    changed = text.replace(
        '{type: twist_stamped, topic: twist_command}', '{type: twist, topic: t}'
    )
    assert changed != text
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'my_arm.yaml')
        path.write_text(changed, 'utf-8')
        return load_profile(str(path))


def main() -> None:
    """Register the output, then run the policy node or send two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--run-node', action='store_true', help='run policy_node with the output')
    arguments, ros_arguments = parser.parse_known_args()

    register_output('twist', UnstampedTwistOutput)

    if arguments.run_node:
        from sqap_vla_ros.ros.policy_node import node

        node.main(ros_arguments)
        return

    rclpy.init()
    node = Node('output_example')
    received: list[Twist] = []
    node.create_subscription(Twist, 't', received.append, 10)
    outputs = AllOutputs(node, profile_with_new_output())
    for command in (
        Command((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        Command((0.1, -0.2, 0.05), (0.0, 0.0, 0.3)),
    ):
        received.clear()
        end_s = time.monotonic() + TIMEOUT_S
        while not received and time.monotonic() < end_s:  # discovery takes a moment
            outputs.publish(command)
            rclpy.spin_once(node, timeout_sec=0.1)
        if not received:
            raise SystemExit('no message arrived')
        linear, angular = received[-1].linear, received[-1].angular
        print(
            f'linear {linear.x:+.2f} {linear.y:+.2f} {linear.z:+.2f} m/s, '
            f'angular {angular.x:+.2f} {angular.y:+.2f} {angular.z:+.2f} rad/s'
        )
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
