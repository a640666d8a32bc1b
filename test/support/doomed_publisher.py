"""Publishes joint trajectories until it is killed."""

import time

import rclpy

from sqap_vla_ros.profiles.robot_profile import Output
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs

from support.outputs import joint_command, profile


def main():
    """Publish at 50 Hz."""
    rclpy.init()
    node = rclpy.create_node('doomed')
    outputs = AllOutputs(
        node,
        profile(Output('joint_trajectory', 'killed', joints=('shoulder', 'elbow'), horizon_s=0.2)),
    )
    while True:
        outputs.publish(joint_command())
        time.sleep(0.02)


if __name__ == '__main__':
    main()
