"""
A policy beside a robot that is already running: its driver, camera and controllers.

    ros2 launch sqap_vla_ros real_arm.launch.py profile:=my_arm.yaml policy:=my_policy

It is a dry run: the commands go to ~/dry_run/TOPIC. `command:=true` lets them out.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from sqap_vla_ros.ros.launching import (
    policy_actions,
    policy_arguments,
    rviz,
    rviz_argument,
    shared_memory_profile,
    TRUTH,
)


def start(context: LaunchContext) -> list:
    """Start the policy node and say whether it commands."""
    command = LaunchConfiguration('command').perform(context) == 'true'
    sim_time = LaunchConfiguration('use_sim_time').perform(context) == 'true'
    text = (
        'the policy COMMANDS THE ARM: keep a hand on the emergency stop'
        if command
        else 'dry run: commands go to ~/dry_run/TOPIC; command:=true lets them out'
    )
    return [LogInfo(msg=text), *policy_actions(context, not command, sim_time)]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start the policy node."""
    return LaunchDescription(
        [
            *policy_arguments(),
            DeclareLaunchArgument(
                'command',
                default_value='false',
                choices=TRUTH,
                description='send commands to the controllers; false: a dry run',
            ),
            DeclareLaunchArgument(
                'use_sim_time',
                default_value='false',
                choices=TRUTH,
                description='take the time from /clock',
            ),
            rviz_argument(),
            shared_memory_profile(),
            OpaqueFunction(function=start),
            rviz(),
        ]
    )
