"""
The pip front end to CMakeLists.txt, for machines with ROS 2 wheels instead of a ROS 2 install.

With the packages of requirements/ros-jazzy-wheels.txt in the environment:

    pip install --no-build-isolation .

colcon does not read this file: package.xml names ament_cmake as the build type.
"""

from pathlib import Path
import sys
import xml.etree.ElementTree as ElementTree

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).resolve().parent
# Builds run with another directory first on sys.path.
sys.path.insert(0, str(SOURCE / 'wheels_build'))

from cmake_install import cmake_install

PATH_FILE = "import os, sys; os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)\n"


class BuildWithInterfaces(build_py):
    """Add what CMake installs: generated modules and libraries, node programs, share files."""

    def run(self):
        """Install into a staging folder and sort its files into the wheel."""
        super().run()
        work = Path(self.get_finalized_command('build').build_temp).resolve()
        stage = work / 'stage'
        cmake_install(
            Path(sys.prefix),
            work / 'cmake',
            stage,
            {'PYTHON_INSTALL_DIR': 'python', 'SQAP_VLA_ROS_INSTALL_MODULES': 'OFF'},
        )
        for path in sorted(stage.rglob('*')):
            name = path.relative_to(stage)
            if path.is_dir() or '__pycache__' in name.parts:
                continue
            if name.parts[0] == 'python':
                self.add_module(path, name.relative_to('python'))
            elif name.parts[0] != 'bin':  # pip makes bin/sqap_vla from the entry point
                self.distribution.data_files.append((str(name.parent), [str(path)]))
        # rclpy finds installed packages through a variable; see also setup_venv.py.
        (Path(self.build_lib) / 'sqap_vla_ros_prefix.pth').write_text(PATH_FILE)

    def add_module(self, path: Path, name: Path) -> None:
        """Copy a generated file unless it is the (empty) __init__.py that ours replaces."""
        target = Path(self.build_lib) / name
        if '.egg-info' in str(name) or name == Path('sqap_vla_ros', '__init__.py'):
            return
        self.mkpath(str(target.parent))
        self.copy_file(str(path), str(target))


class BinaryDistribution(Distribution):
    """A wheel for one Python and one platform, although setuptools compiles nothing."""

    def has_ext_modules(self):
        """Name the wheel after the platform."""
        return True


setup(
    version=ElementTree.parse(SOURCE / 'package.xml').findtext('version'),
    data_files=[],
    cmdclass={'build_py': BuildWithInterfaces},
    distclass=BinaryDistribution,
)
