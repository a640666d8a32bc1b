"""
A policy on an arm in Gazebo: gz sim, the bridge, ros2_control and the policy node.

    ros2 launch sqap_vla_ros gazebo.launch.py

Needs ros_gz_sim, ros_gz_bridge, gz_ros2_control, controller_manager, robot_state_publisher and
joint_trajectory_controller. The gantry in config/gazebo is an example to copy: exchange world,
robot description and profile for yours.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from sqap_vla_ros.input_files import read_text
from sqap_vla_ros.profiles.urdf import MAX_BYTES
from sqap_vla_ros.ros.gazebo import bridge_file, namespaced_description
from sqap_vla_ros.ros.launching import (
    full_namespace,
    policy_arguments,
    policy_on_profile,
    rviz,
    rviz_argument,
    scoped,
    share,
    shared_memory_profile,
    text,
    TRUTH,
    value_of,
)

NO_POLICY = 'none'


def start(context: LaunchContext) -> list:
    """Start the policy node where one is given, on simulation time."""
    if value_of(context, 'policy') == NO_POLICY:
        return []
    dry_run = value_of(context, 'command') != 'true'
    return [policy_on_profile(context, dry_run, use_sim_time=True)]


def robot(context: LaunchContext) -> list:
    """Publish the robot's description, spawn it with its controllers, and bridge its topics."""
    file = Path(value_of(context, 'robot_description_file')).expanduser()
    inside = full_namespace(context).strip('/')
    description = namespaced_description(
        read_text(file, MAX_BYTES, 'a URDF'), value_of(context, 'controllers_file'), inside
    )
    bridged = bridge_file(
        value_of(context, 'bridge_file'),
        description.topics,
        inside,
        value_of(context, 'clock') == 'true',
    )
    namespace = LaunchConfiguration('namespace')
    return [
        Node(
            package='ros_gz_bridge',
            executable='parameter_bridge',
            output='screen',
            namespace=namespace,
            parameters=[{'config_file': text(bridged), 'use_sim_time': True}],
        ),
        Node(
            package='robot_state_publisher',
            executable='robot_state_publisher',
            namespace=namespace,
            parameters=[{'robot_description': text(description.urdf), 'use_sim_time': True}],
        ),
        Node(
            package='ros_gz_sim',
            executable='create',
            namespace=namespace,
            output='screen',
            arguments=[
                *('-name', f'{inside.replace("/", "_")}_arm' if inside else 'arm'),
                *('-topic', 'robot_description'),
            ],
        ),
        *[
            Node(
                package='controller_manager',
                executable='spawner',
                namespace=namespace,
                arguments=[name],
                output='screen',
            )
            for name in value_of(context, 'controllers').split()
        ],
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments and start the simulator, the robot and the policy node."""
    gazebo = share() / 'config' / 'gazebo'
    simulator = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare('ros_gz_sim'), 'launch', 'gz_sim.launch.py']),
        launch_arguments={'gz_args': ['-r -s ', LaunchConfiguration('world')]}.items(),
        condition=IfCondition(LaunchConfiguration('simulator')),
    )
    return scoped(
        [
            *policy_arguments(str(gazebo / 'profile.yaml'), without=NO_POLICY),
            DeclareLaunchArgument(
                'command',
                default_value='true',
                choices=TRUTH,
                description='send commands to the controllers; false: a dry run',
            ),
            DeclareLaunchArgument(
                'simulator',
                default_value='true',
                choices=TRUTH,
                description='start gz sim, without its window; false: it runs already',
            ),
            DeclareLaunchArgument(
                'world', default_value=str(gazebo / 'world.sdf'), description='world, SDF'
            ),
            DeclareLaunchArgument(
                'bridge_file',
                default_value=str(gazebo / 'bridge.yaml'),
                description='topics that ros_gz_bridge passes on',
            ),
            DeclareLaunchArgument(
                'clock',
                default_value=LaunchConfiguration('simulator'),
                choices=TRUTH,
                description='pass on /clock; default: where this launch starts gz sim',
            ),
            DeclareLaunchArgument(
                'robot_description_file',
                default_value=str(gazebo / 'arm.urdf'),
                description='URDF; CONTROLLERS_FILE in it is replaced',
            ),
            DeclareLaunchArgument(
                'controllers_file',
                default_value=str(gazebo / 'controllers.yaml'),
                description='parameters of the controller manager',
            ),
            DeclareLaunchArgument(
                'controllers',
                default_value='joint_state_broadcaster arm_controller',
                description='controllers to spawn, separated by spaces',
            ),
            rviz_argument(),
            shared_memory_profile(),
            simulator,
            OpaqueFunction(function=robot),
            OpaqueFunction(function=start),
            rviz(),
        ]
    )
