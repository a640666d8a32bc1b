"""
The compressed policy drives the simulated arm: `ros2 launch sqap_vla_ros sim.launch.py`.

    ros2 topic pub --once /instruction std_msgs/msg/String "data: press the red button"

`--show-args` lists the arguments.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = 'sqap_vla_ros'
SHARE = Path(get_package_share_directory(PACKAGE))


def typed(argument: str, value_type: type) -> ParameterValue:
    """Make a launch argument the value of a node parameter that is not text."""
    return ParameterValue(LaunchConfiguration(argument), value_type=value_type)


def policy_actions(context: LaunchContext) -> list:
    """Start the policy node; a float policy is compressed with the recipe before."""
    policy = Path(LaunchConfiguration('policy').perform(context)).expanduser()
    recipe = LaunchConfiguration('recipe').perform(context)
    if recipe in ('', 'none') or (policy / 'recipe.yaml').exists():
        return [policy_node(policy)]
    home = Path(os.environ.get('ROS_HOME', '~/.ros')).expanduser()
    compressed = home / PACKAGE / f'{policy.name}-{Path(recipe).stem}'
    compress = ExecuteProcess(
        cmd=[
            str(Path(get_package_prefix(PACKAGE), 'bin', 'sqap_vla')),
            'compress',
            str(policy),
            str(compressed),
            '--recipe',
            recipe,
        ],
        name='compress',
        output='screen',
    )

    def when_compressed(event, _):
        if event.returncode == 0:
            return [policy_node(compressed)]
        return [Shutdown(reason='the policy was not compressed')]

    return [
        RegisterEventHandler(OnProcessExit(target_action=compress, on_exit=when_compressed)),
        compress,
    ]


def policy_node(policy: Path) -> Node:
    """Return the action that starts the policy node on a policy directory."""
    return Node(
        package=PACKAGE,
        executable='policy_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        on_exit=Shutdown(reason='policy_node ended'),
        parameters=[
            LaunchConfiguration('policy_params_file'),
            {
                'policy': str(policy),
                'autostart': typed('autostart', bool),
                'start_on_instruction': typed('start_on_instruction', bool),
                'use_sim_time': typed('use_sim_time', bool),
            },
        ],
    )


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start both nodes."""
    arguments = [
        DeclareLaunchArgument('namespace', default_value='', description='of both nodes'),
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
        DeclareLaunchArgument(
            'policy',
            default_value=str(SHARE / 'policies' / 'small'),
            description='policy directory, float or compressed',
        ),
        DeclareLaunchArgument(
            'recipe',
            default_value='sqap_w4a4_prune40',
            description='recipe (a name or a file) with which a float policy is compressed first; '
            'none: run it in float',
        ),
        DeclareLaunchArgument(
            'autostart',
            default_value='true',
            choices=['true', 'false'],
            description='configure and activate the policy node; false: it waits for '
            '`ros2 lifecycle set`',
        ),
        DeclareLaunchArgument(
            'start_on_instruction',
            default_value='true',
            choices=['true', 'false'],
            description='an instruction on the topic starts motion; false: only a goal or '
            '~/resume does',
        ),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value='false',
            choices=['true', 'false'],
            description='publish /clock from the simulated arm and stamp with it',
        ),
        DeclareLaunchArgument(
            'policy_params_file',
            default_value=str(SHARE / 'config' / 'policy_node.yaml'),
            description='parameters of policy_node; the arguments here count more',
        ),
        DeclareLaunchArgument(
            'sim_params_file',
            default_value=str(SHARE / 'config' / 'sim_arm_node.yaml'),
            description='parameters of sim_arm_node; the arguments here count more',
        ),
    ]
    sim_arm_node = Node(
        package=PACKAGE,
        executable='sim_arm_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        on_exit=Shutdown(reason='sim_arm_node ended'),
        parameters=[
            LaunchConfiguration('sim_params_file'),
            {
                'task': LaunchConfiguration('task'),
                'seed': typed('seed', int),
                'real_time_factor': typed('real_time_factor', float),
                'publish_clock': typed('use_sim_time', bool),
            },
        ],
    )
    # Room for camera images in Fast DDS's shared memory, unless the user has a profile.
    profile = SetEnvironmentVariable(
        'FASTRTPS_DEFAULT_PROFILES_FILE',
        EnvironmentVariable(
            'FASTRTPS_DEFAULT_PROFILES_FILE',
            default_value=str(SHARE / 'config' / 'fastdds_shm.xml'),
        ),
    )
    return LaunchDescription(
        [*arguments, profile, sim_arm_node, OpaqueFunction(function=policy_actions)]
    )
