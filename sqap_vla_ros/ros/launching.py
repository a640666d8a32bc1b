"""Arguments and actions that the launch files share. Only launch files import it."""

from collections.abc import Callable, Sequence
import os
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from sqap_vla_ros.ros.common.middleware import image_transport_variables

PACKAGE = 'sqap_vla_ros'
TRUTH = ('true', 'false')


def share() -> Path:
    """Directory of the package's shared files."""
    return Path(get_package_share_directory(PACKAGE))


def namespace_argument(nodes: str = 'all nodes') -> DeclareLaunchArgument:
    """Declare the argument `namespace`."""
    return DeclareLaunchArgument('namespace', default_value='', description=f'of {nodes}')


def policy_argument(note: str = '') -> DeclareLaunchArgument:
    """Declare the argument `policy`; `note` ends its description."""
    return DeclareLaunchArgument(
        'policy',
        default_value=str(share() / 'policies' / 'small'),
        description='policy directory, float or compressed' + note,
    )


def start_arguments(start_on_instruction: str) -> list[DeclareLaunchArgument]:
    """Declare the arguments about the start of a policy, given the default of one of them."""
    return [
        DeclareLaunchArgument(
            'recipe',
            default_value='sqap_w4a4_prune40',
            description='recipe (a name, see `sqap_vla recipes`, or a file) with which a float '
            'policy is compressed first; none: run it in float',
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
            default_value=start_on_instruction,
            choices=TRUTH,
            description='an instruction on the topic starts motion; false: only a goal or '
            '~/resume does',
        ),
    ]


def policy_arguments(profile: str | None = None, without: str = '') -> list[DeclareLaunchArgument]:
    """
    Declare the arguments of every launch file that takes a robot profile.

    Args:
        profile: Default of the argument of this name; None: it must be given.
        without: Value of `policy` that starts no policy node, if there is one.

    Returns:
        The arguments, in the order of --show-args.
    """
    return [
        namespace_argument(),
        DeclareLaunchArgument(
            'profile',
            default_value=profile,
            description='robot profile: a YAML file or the name of one in config/robots',
        ),
        policy_argument(
            '; the default was trained for the simulated arm and for nothing else'
            + (f'; {without}: no policy node' if without else '')
        ),
        *start_arguments(start_on_instruction='false'),
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
    """
    Start the policy node on a robot profile; a float policy is compressed first.

    Args:
        context: Launch context with the values of `policy_arguments`.
        dry_run: Send the commands to ~/dry_run/TOPIC.
        use_sim_time: Take the time from /clock.

    Returns:
        Actions, for an OpaqueFunction.
    """

    def start(context: LaunchContext, policy: Path) -> Node:
        further = LaunchConfiguration('params_file').perform(context)
        parameters = {
            'profile': LaunchConfiguration('profile').perform(context),
            'dry_run': dry_run,
            'acknowledge_untested_profile': typed('acknowledge_untested_profile', bool),
            'use_sim_time': use_sim_time,
        }
        return policy_node(policy, parameters, after=[further] if further else [])

    return with_compressed_policy(context, start)


def with_compressed_policy(
    context: LaunchContext, start: Callable[[LaunchContext, Path], Node]
) -> list:
    """
    Compress the policy of the argument `policy` if it is a float one, then start a node on it.

    Args:
        context: Launch context with the values of the arguments `policy` and `recipe`.
        start: Makes the node from the directory of the policy.

    Returns:
        Actions, for an OpaqueFunction. The launch ends if the policy is not compressed.
    """
    policy = Path(LaunchConfiguration('policy').perform(context)).expanduser()
    recipe = LaunchConfiguration('recipe').perform(context)
    if recipe in ('', 'none') or (policy / 'recipe.yaml').exists():
        return [start(context, policy)]
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

    def when_compressed(event: ProcessExited, context: LaunchContext) -> list:
        if event.returncode == 0:
            return [start(context, compressed)]
        return [Shutdown(reason='the policy was not compressed')]

    return [
        RegisterEventHandler(OnProcessExit(target_action=compress, on_exit=when_compressed)),
        compress,
    ]


def policy_node(
    policy: Path, parameters: dict[str, Any], before: Sequence = (), after: Sequence = ()
) -> Node:
    """
    Make the action that starts the policy node, without respawn; its end ends the launch.

    Args:
        policy: Policy directory.
        parameters: Further parameters.
        before: Files of parameters that the others override.
        after: Files of parameters that override the others.

    Returns:
        The action.
    """
    return Node(
        package=PACKAGE,
        executable='policy_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        on_exit=Shutdown(reason='policy_node ended'),
        parameters=[
            *before,
            {
                'policy': str(policy),
                'autostart': typed('autostart', bool),
                'start_on_instruction': typed('start_on_instruction', bool),
                **parameters,
            },
            *after,
        ],
    )


def shared_memory_profile() -> OpaqueFunction:
    """Make room for images where the middleware needs it; see `image_transport_variables`."""

    def set_variables(context: LaunchContext) -> list[SetEnvironmentVariable]:
        profiles = share() / 'config' / 'fastdds_shm.xml'
        variables = image_transport_variables(profiles, context.environment)
        return [SetEnvironmentVariable(name, value) for name, value in variables.items()]

    return OpaqueFunction(function=set_variables)


def rviz_argument() -> DeclareLaunchArgument:
    """Declare the argument `rviz`."""
    return DeclareLaunchArgument(
        'rviz',
        default_value='false',
        choices=TRUTH,
        description='start RViz with the overlay and the path',
    )


def rviz() -> Node:
    """Start RViz with the view of this package if the argument `rviz` is true."""
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', str(share() / 'config' / 'rviz' / 'policy.rviz')],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )


def typed(argument: str, value_type: type) -> ParameterValue:
    """Make a launch argument the value of a node parameter that is not a string."""
    return ParameterValue(LaunchConfiguration(argument), value_type=value_type)
