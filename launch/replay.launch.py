"""
What a policy would do on a recording: bag in, dry run out.

    ros2 launch sqap_vla_ros replay.launch.py bag:=recording instruction:='push the red button'

The player publishes the bag's messages again, stamped now, once the policy node listens. Commands
go to ~/dry_run/TOPIC. A bag that cannot be played ends the launch.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from sqap_vla_ros.ros.launching import (
    PACKAGE,
    policy_actions,
    policy_arguments,
    rviz,
    rviz_argument,
    shared_memory_profile,
    TRUTH,
    typed,
)


def start(context: LaunchContext) -> list:
    """Start the policy node in a dry run."""
    return policy_actions(context, dry_run=True, use_sim_time=False)


def ended(event, _) -> list:
    """End the launch with a player that failed; the policy node outlives the end of a bag."""
    return [Shutdown(reason='the bag was not played')] if event.returncode else []


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start player and policy node."""
    player = Node(
        package=PACKAGE,
        executable='bag_player_node',
        output='screen',
        on_exit=ended,
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'bag': LaunchConfiguration('bag'),
                'profile': LaunchConfiguration('profile'),
                'rate': typed('rate', float),
                'loop': typed('loop', bool),
                'instruction': LaunchConfiguration('instruction'),
            }
        ],
    )
    return LaunchDescription(
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
            player,
            OpaqueFunction(function=start),
            rviz(),
        ]
    )
