"""Arguments and actions that the launch files share. Only launch files import it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    PopLaunchConfigurations,
    PushLaunchConfigurations,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from sqap_vla_ros.errors import UserError

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


def policy_on_profile(context: LaunchContext, dry_run: bool, use_sim_time: bool) -> Node:
    """
    Make the action that starts the policy node on a robot profile.

    Args:
        context: Launch context with the values of `policy_arguments`.
        dry_run: Send the commands to ~/dry_run/TOPIC.
        use_sim_time: Take the time from /clock.

    Returns:
        The action.
    """
    further = existing_file(context, 'params_file')
    parameters = {
        'profile': typed('profile', str),
        'dry_run': dry_run,
        'acknowledge_untested_profile': typed('acknowledge_untested_profile', bool),
        'use_sim_time': use_sim_time,
    }
    return policy_node(parameters, after=[further] if further else [])


def policy_node(parameters: dict[str, Any], before: Sequence = (), after: Sequence = ()) -> Node:
    """
    Make the action that starts the policy node, without respawn.

    The node itself compresses a float policy, so that nothing of it is left for a later event:
    by then the launch arguments may be those of another arm.

    Args:
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
        parameters=[
            *before,
            {
                'policy': typed('policy', str),
                'recipe': typed('recipe', str),
                'autostart': typed('autostart', bool),
                'start_on_instruction': typed('start_on_instruction', bool),
                **parameters,
            },
            *after,
        ],
    )


def ending_with(first: Node, other: Node, only_failed: bool = False) -> RegisterEventHandler:
    """
    Make the event handler by which a node ends another one; what else is launched goes on.

    Args:
        first: Its end ends the other.
        other: In the same launch file.
        only_failed: Not where `first` has ended with exit status 0.

    Returns:
        The handler, to be executed before the nodes.
    """
    end = EmitEvent(event=ShutdownProcess(process_matcher=matches_action(other)))

    def ended(event: ProcessExited, _: LaunchContext) -> list[Action]:
        return [] if only_failed and event.returncode == 0 else [end]

    return RegisterEventHandler(OnProcessExit(target_action=first, on_exit=ended))


def scoped(actions: Sequence[Action]) -> LaunchDescription:
    """
    Keep the launch arguments of a launch file from whoever includes it and another one.

    Without it, the defaults of one file count in the files that are included after it.

    Args:
        actions: Of the launch file; declarations of arguments first.

    Returns:
        The launch description.
    """
    return LaunchDescription([PushLaunchConfigurations(), *actions, PopLaunchConfigurations()])


def full_namespace(context: LaunchContext) -> str:
    """Return the namespace of the nodes, with those that were pushed; begins with a slash."""
    outer = context.launch_configurations.get('ros_namespace')
    return make_namespace_absolute(prefix_namespace(outer, value_of(context, 'namespace'))) or '/'


def full_name(context: LaunchContext) -> str:
    """Return the name of the policy node with its namespace."""
    return f'{full_namespace(context).rstrip("/")}/policy_node'


def existing_file(context: LaunchContext, argument: str) -> str:
    """
    Return the file that a launch argument names; empty where it is empty.

    Raises:
        UserError: There is none. Launch itself only warns, and starts the node without it.
    """
    path = Path(value_of(context, argument)).expanduser()
    if path == Path():
        return ''
    if not path.is_file():
        raise UserError(f'{argument} is {path}: no such file; expected a YAML file of parameters')
    return str(path)


def value_of(context: LaunchContext, argument: str) -> str:
    """Return the value of a launch argument."""
    return LaunchConfiguration(argument).perform(context)


def shared_memory_profile() -> SetEnvironmentVariable:
    """Enlarge the shared memory of Fast DDS for images, unless the user has set a profile."""
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


def text(value: str) -> ParameterValue:
    """Make a text the value of a node parameter; launch reads other texts as YAML."""
    return ParameterValue(value, value_type=str)
