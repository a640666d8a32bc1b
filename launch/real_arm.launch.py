"""
A policy beside a robot that is already running: its driver, camera and controllers.

    ros2 launch sqap_vla_ros real_arm.launch.py profile:=my_arm.yaml policy:=my_policy

It is a dry run: the commands go to ~/dry_run/TOPIC. `command:=true` lets them out.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction

from sqap_vla_ros.ros.launching import (
    full_name,
    policy_arguments,
    policy_on_profile,
    rviz,
    rviz_argument,
    scoped,
    shared_memory_profile,
    TRUTH,
    value_of,
)


def start(context: LaunchContext) -> list:
    """Start the policy node and say which policy moves which robot."""
    command = value_of(context, 'command') == 'true'
    text = (
        'the policy COMMANDS THE ARM: keep a hand on the emergency stop'
        if command
        else 'dry run: commands go to ~/dry_run/TOPIC; command:=true lets them out'
    )
    described = f'profile {value_of(context, "profile")}, policy {value_of(context, "policy")}'
    return [
        LogInfo(msg=f'{full_name(context)}: {described}; {text}'),
        policy_on_profile(context, not command, value_of(context, 'use_sim_time') == 'true'),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start the policy node."""
    return scoped(
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
