"""
What a policy would do on a recording: bag in, dry run out.

    ros2 launch sqap_vla_ros replay.launch.py bag:=recording instruction:='push the red button'

The player publishes the bag's messages again, stamped now, once the policy node listens. Commands
go to ~/dry_run/TOPIC. A bag that cannot be played ends the launch.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from sqap_vla_ros.ros.launching import (
    ending_with,
    PACKAGE,
    policy_arguments,
    policy_on_profile,
    rviz,
    rviz_argument,
    scoped,
    shared_memory_profile,
    TRUTH,
    typed,
)


def start(context: LaunchContext) -> list:
    """Start the player, and the policy node in a dry run."""
    player = Node(
        package=PACKAGE,
        executable='bag_player_node',
        output='screen',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'bag': typed('bag', str),
                'profile': typed('profile', str),
                'rate': typed('rate', float),
                'loop': typed('loop', bool),
                'instruction': typed('instruction', str),
            }
        ],
    )
    policy = policy_on_profile(context, dry_run=True, use_sim_time=False)
    return [
        ending_with(policy, player),
        ending_with(player, policy, only_failed=True),  # the policy node outlives a bag's end
        player,
        policy,
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start player and policy node."""
    return scoped(
        [
            DeclareLaunchArgument('bag', description='rosbag2 directory, or a file .mcap or .db3'),
            DeclareLaunchArgument('rate', default_value='1.0', description='speed of the player'),
            DeclareLaunchArgument(
                'loop',
                default_value='true',
                choices=TRUTH,
                description='begin again at the end of the bag',
            ),
            DeclareLaunchArgument(
                'instruction',
                default_value='',
                description='published again and again; empty: only what is in the bag. It starts '
                'the policy where start_on_instruction:=true',
            ),
            *policy_arguments('sim_sawyer'),
            rviz_argument(),
            shared_memory_profile(),
            OpaqueFunction(function=start),
            rviz(),
        ]
    )
