"""
The compressed policy drives the simulated arm: `ros2 launch sqap_vla_ros sim.launch.py`.

    ros2 topic pub --once /instruction std_msgs/msg/String "data: press the red button"

`--show-args` lists the arguments.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from sqap_vla_ros.ros.launching import (
    ending_with,
    existing_file,
    namespace_argument,
    PACKAGE,
    policy_argument,
    policy_node,
    scoped,
    share,
    shared_memory_profile,
    start_arguments,
    TRUTH,
    typed,
)


def start(context: LaunchContext) -> list:
    """Start both nodes; they end together."""
    sim_arm_node = Node(
        package=PACKAGE,
        executable='sim_arm_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            existing_file(context, 'sim_params_file'),
            {
                'task': typed('task', str),
                'seed': typed('seed', int),
                'real_time_factor': typed('real_time_factor', float),
                'publish_clock': typed('use_sim_time', bool),
            },
        ],
    )
    policy = policy_node(
        {'use_sim_time': typed('use_sim_time', bool)},
        before=[existing_file(context, 'policy_params_file')],
    )
    return [
        ending_with(sim_arm_node, policy),
        ending_with(policy, sim_arm_node),
        sim_arm_node,
        policy,
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start both nodes."""
    arguments = [
        namespace_argument('both nodes'),
        DeclareLaunchArgument(
            'task',
            default_value='press_red',
            description='press_red, press_green, press_blue, press_box, open_drawer or '
            'press_coffee; for policies/small_objects press_small_red, _green, _blue '
            'or _yellow',
        ),
        DeclareLaunchArgument(
            'seed', default_value='0', description='places of objects and arm in the scene'
        ),
        DeclareLaunchArgument(
            'real_time_factor',
            default_value='1.0',
            description='simulated seconds a second, 0.05 to 10',
        ),
        policy_argument(),
        *start_arguments(start_on_instruction='true'),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value='true',
            choices=TRUTH,
            description='publish /clock from the simulated arm and take the time from it; false: '
            'the arm must keep up with real time, or it will seem not to follow its commands',
        ),
        DeclareLaunchArgument(
            'policy_params_file',
            default_value=str(share() / 'config' / 'policy_node.yaml'),
            description='parameters of policy_node; the arguments here count more',
        ),
        DeclareLaunchArgument(
            'sim_params_file',
            default_value=str(share() / 'config' / 'sim_arm_node.yaml'),
            description='parameters of sim_arm_node; the arguments here count more',
        ),
    ]
    return scoped([*arguments, shared_memory_profile(), OpaqueFunction(function=start)])
