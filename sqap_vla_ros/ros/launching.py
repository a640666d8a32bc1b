"""What the launch files share; imports `launch` and is imported by launch files alone."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = 'sqap_vla_ros'
TRUTH = ('true', 'false')


def share() -> Path:
    """Directory of the package's shared files."""
    return Path(get_package_share_directory(PACKAGE))


def policy_arguments(profile: str, without: str = '') -> list[DeclareLaunchArgument]:
    """
    Declare the arguments of everything that starts the policy node.

    :param profile: default of the argument of this name
    :param without: value of `policy` that starts no policy node, where there is one
    """
    return [
        DeclareLaunchArgument('namespace', default_value='', description='of all nodes'),
        DeclareLaunchArgument(
            'profile',
            default_value=profile,
            description='robot profile: a YAML file or the name of one in config/robots',
        ),
        DeclareLaunchArgument(
            'policy',
            default_value=str(share() / 'policies' / 'small'),
            description='policy directory, float or compressed; the default was trained for the '
            'simulated arm and for nothing else'
            + (f'; {without}: no policy node' if without else ''),
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
            choices=TRUTH,
            description='configure and activate the policy node; false: it waits for '
            '`ros2 lifecycle set`',
        ),
        DeclareLaunchArgument(
            'start_on_instruction',
            default_value='false',
            choices=TRUTH,
            description='an instruction on the topic starts motion; false: only a goal or '
            '~/resume does',
        ),
        DeclareLaunchArgument(
            'acknowledge_untested_profile',
            default_value='false',
            choices=TRUTH,
            description='command although the profile has never run on its robot',
        ),
        DeclareLaunchArgument(
            'params_file',
            default_value='',
            description='further parameters of policy_node; they count more than the profile',
        ),
    ]


def policy_actions(context: LaunchContext, dry_run: bool, use_sim_time: bool) -> list:
    """Start the policy node, without respawn; a float policy is compressed first."""
    policy = Path(LaunchConfiguration('policy').perform(context)).expanduser()
    recipe = LaunchConfiguration('recipe').perform(context)
    if recipe in ('', 'none') or (policy / 'recipe.yaml').exists():
        return [_policy_node(context, policy, dry_run, use_sim_time)]
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

    def when_compressed(event, context):
        if event.returncode == 0:
            return [_policy_node(context, compressed, dry_run, use_sim_time)]
        return [Shutdown(reason='the policy was not compressed')]

    return [
        RegisterEventHandler(OnProcessExit(target_action=compress, on_exit=when_compressed)),
        compress,
    ]


def shared_memory_profile() -> SetEnvironmentVariable:
    """Make room for images in Fast DDS's shared memory, unless the user has a profile."""
    name = 'FASTRTPS_DEFAULT_PROFILES_FILE'
    return SetEnvironmentVariable(
        name, EnvironmentVariable(name, default_value=str(share() / 'config' / 'fastdds_shm.xml'))
    )


def rviz_argument() -> DeclareLaunchArgument:
    """Declare the argument `rviz`."""
    return DeclareLaunchArgument(
        'rviz',
        default_value='false',
        choices=TRUTH,
        description='start RViz with the overlay and the path',
    )


def rviz() -> Node:
    """Start RViz with the package's view, where it is wanted."""
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', str(share() / 'config' / 'rviz' / 'policy.rviz')],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )


def typed(argument: str, value_type: type) -> ParameterValue:
    """Make a launch argument the value of a node parameter that is not text."""
    return ParameterValue(LaunchConfiguration(argument), value_type=value_type)


def _policy_node(context, policy, dry_run, use_sim_time):
    further = LaunchConfiguration('params_file').perform(context)
    profile = LaunchConfiguration('profile').perform(context)
    return Node(
        package=PACKAGE,
        executable='policy_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        on_exit=Shutdown(reason='policy_node ended'),
        parameters=[
            {
                'policy': str(policy),
                'profile': profile,
                'dry_run': dry_run,
                'autostart': typed('autostart', bool),
                'start_on_instruction': typed('start_on_instruction', bool),
                'acknowledge_untested_profile': typed('acknowledge_untested_profile', bool),
                'use_sim_time': use_sim_time,
            },
            *([further] if further else []),
        ],
    )
