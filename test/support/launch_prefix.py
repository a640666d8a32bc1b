"""An ament prefix with stand-ins for ROS packages that are not installed, for launch tests."""

from pathlib import Path
import sys

PROGRAM = """#!{python}
import sys
import rclpy
rclpy.init(args=sys.argv)
node = rclpy.create_node({name!r}, automatically_declare_parameters_from_overrides=True)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    pass
"""
ENDS_AT_ONCE = '#!{python}\n'
LAUNCH_FILE = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch_ros.actions import Node


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('gz_args', description='as of ros_gz_sim'),
        Node(package='ros_gz_sim', executable='gz_sim')])
"""
PROGRAMS = {
    'ros_gz_sim': ('gz_sim', 'create'),
    'ros_gz_bridge': ('parameter_bridge',),
    'robot_state_publisher': ('robot_state_publisher',),
    'controller_manager': ('spawner',),
}


def make_prefix(prefix: Path) -> Path:
    """Write the stand-ins of `PROGRAMS`; `create` and `spawner` end at once."""
    for package, programs in PROGRAMS.items():
        index = prefix / 'share/ament_index/resource_index/packages'
        index.mkdir(parents=True, exist_ok=True)
        (index / package).write_text('')
        (prefix / 'share' / package / 'launch').mkdir(parents=True)
        (prefix / 'lib' / package).mkdir(parents=True)
        for program in programs:
            text = ENDS_AT_ONCE if program in ('create', 'spawner') else PROGRAM
            path = prefix / 'lib' / package / program
            path.write_text(text.format(python=sys.executable, name=program))
            path.chmod(0o755)
    (prefix / 'share/ros_gz_sim/launch/gz_sim.launch.py').write_text(LAUNCH_FILE)
    return prefix
