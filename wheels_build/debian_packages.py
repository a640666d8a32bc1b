"""Debian and Ubuntu packages that building the interfaces and offscreen rendering need."""

from collections.abc import Callable
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sysconfig

# MuJoCo renders through EGL; without a GPU, Mesa draws in software.
RENDERING_PACKAGES = ('libegl1', 'libegl-mesa0', 'libgl1', 'libgl1-mesa-dri', 'libglx-mesa0')


def _is_installed(package: str) -> bool:
    answer = subprocess.run(
        ['dpkg-query', '-W', '-f=${Status}', package], capture_output=True, text=True, check=False
    )
    return answer.stdout.endswith('ok installed')


def missing_packages() -> list[str]:
    """Names of the packages that this machine lacks; the compiler and Python are looked up."""
    missing = [] if shutil.which('c++') else ['g++']
    if not (importlib.util.find_spec('ensurepip') and importlib.util.find_spec('venv')):
        missing.append('python3-venv')
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        missing.append('python3-dev')
    if shutil.which('dpkg-query'):
        missing += [package for package in RENDERING_PACKAGES if not _is_installed(package)]
    return missing


def install_packages(packages: list[str], run: Callable[..., object]) -> str | None:
    """Install as root, or return one line that says what somebody else has to install."""
    command = f'apt-get install -y --no-install-recommends {" ".join(packages)}'
    if os.geteuid() != 0 or not shutil.which('apt-get'):
        return f'Debian packages are missing. As root, run: {command}'
    environment = dict(os.environ, DEBIAN_FRONTEND='noninteractive')
    run(['apt-get', 'update', '-q'], env=environment)
    run(command.split(), env=environment)
    return None
