"""Build the CMake project against the ROS 2 wheels of one virtual environment."""

from collections.abc import Callable
import os
from pathlib import Path
import subprocess

SOURCE = Path(__file__).resolve().parent.parent

# What a sourced ROS 2 or another environment would mix into the build.
FOREIGN_VARIABLES = (
    'PYTHONPATH',
    'PYTHONHOME',
    'COLCON_PREFIX_PATH',
    '_ROS_WHEELS_BOOTSTRAP_COMPLETE',
)


def build_environment(venv: Path) -> dict[str, str]:
    """Environment variables with which the wheels' CMake packages find each other."""
    environment = {
        name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES
    }
    environment['PATH'] = f'{venv / "bin"}{os.pathsep}{environment.get("PATH", os.defpath)}'
    environment['AMENT_PREFIX_PATH'] = environment['CMAKE_PREFIX_PATH'] = str(venv)
    return environment


def cmake_install(
    venv: Path,
    build_folder: Path,
    prefix: Path,
    definitions: dict[str, str],
    run: Callable[..., object] = subprocess.check_call,
) -> None:
    """
    Configure, build and install.

    :param venv: virtual environment with the packages of requirements/ros-jazzy-wheels.txt
    :param prefix: where to install
    :param definitions: further CMake cache variables
    :param run: called as ``run(command, env=environment)`` for each of the two commands
    """
    variables = {
        'CMAKE_BUILD_TYPE': 'Release',
        'BUILD_TESTING': 'OFF',
        'CMAKE_PROJECT_INCLUDE': str(SOURCE / 'wheels_build' / 'imported_targets.cmake'),
        'Python3_EXECUTABLE': str(venv / 'bin' / 'python'),
        'CMAKE_INSTALL_PREFIX': str(prefix),
        **definitions,
    }
    cmake = str(venv / 'bin' / 'cmake')
    environment = build_environment(venv)
    run(
        [
            cmake,
            '-S',
            str(SOURCE),
            '-B',
            str(build_folder),
            '-G',
            'Ninja',
            *(f'-D{name}={value}' for name, value in variables.items()),
        ],
        env=environment,
    )
    run([cmake, '--build', str(build_folder), '--target', 'install'], env=environment)
