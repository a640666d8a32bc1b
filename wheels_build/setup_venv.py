"""
Set up a virtual environment in which this checkout runs without a ROS 2 install.

Needs Python's standard library only. Every step leaves a fingerprint of what it was made from in
the environment and is skipped while that is unchanged, so a second run touches no network.
"""

import argparse
from collections.abc import Iterable
import hashlib
import os
from pathlib import Path
import platform
import subprocess
import sys
import time

from cmake_install import build_environment, cmake_install, SOURCE
from debian_packages import install_packages, missing_packages

REQUIREMENTS = SOURCE / 'requirements'
BUILD_INPUTS = (
    'CMakeLists.txt',
    'package.xml',
    'cmake',
    'csrc',
    'wheels_build',
    'msg',
    'action',
    'config',
    'doc',
    'launch',
    'policies',
)
# Written to the site-packages of the environment, where Python reads it at start: the checkout,
# then the generated modules, then a default for the variable that ROS 2 finds packages with.
PATH_FILE = """{source}
{generated}
import os, sys; os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
"""


class SetupError(Exception):
    """Something that only the user can put right; the text is one line."""


class Setup:
    """The steps, on one environment; owns its log file."""

    def __init__(self, venv: Path, numpy: str) -> None:
        self.venv = venv
        self.numpy = numpy
        self.python = venv / 'bin' / 'python'
        self.state = venv / 'setup'
        self.log = self.state / 'setup.log'

    def run(self, command: list[str], env: dict[str, str] | None = None) -> None:
        """Run a command with its output in the log; on failure raise with the last lines."""
        self.state.mkdir(parents=True, exist_ok=True)
        start_s, shown_s = time.monotonic(), 0.0
        with self.log.open('ab') as log:
            log.write(f'$ {" ".join(command)}\n'.encode())
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            while True:
                try:
                    process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    elapsed_s = time.monotonic() - start_s
                    if elapsed_s - shown_s >= 20:
                        shown_s = elapsed_s
                        print(f'    ... {elapsed_s:.0f} s', flush=True)
        if process.returncode != 0:
            lines = self.log.read_bytes()[begin:].decode(errors='replace').splitlines()
            print('\n'.join(f'    {line}' for line in lines[-15:]), file=sys.stderr)
            raise SetupError(f'`{" ".join(command[:4])} ...` failed; all output: {self.log}')

    def pip(self, *arguments: str) -> None:
        """Run `pip install` in the environment."""
        self.run(
            [
                str(self.python),
                '-m',
                'pip',
                'install',
                '--disable-pip-version-check',
                '--no-input',
                '--progress-bar',
                'off',
                *arguments,
            ],
            env=build_environment(self.venv),
        )

    def is_current(self, step: str, fingerprint: str) -> bool:
        """Whether the step was finished with this fingerprint."""
        stamp = self.state / f'{step}.stamp'
        return stamp.exists() and stamp.read_text() == fingerprint

    def finish(self, step: str, fingerprint: str) -> None:
        """Record that the step is done."""
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / f'{step}.stamp').write_text(fingerprint)

    def make_environment(self) -> None:
        """Create the virtual environment; again if the checkout moved or its Python is gone."""
        fingerprint = f'{self.venv}\n{Path(sys.executable).resolve()}\n{sys.version}'
        if self.is_current('environment', fingerprint) and self.python.exists():
            return
        print(f'[1/3] virtual environment {self.venv}', flush=True)
        own = (self.state / 'environment.stamp').exists()
        subprocess.check_call(
            [sys.executable, '-m', 'venv', *(['--clear'] if own else []), str(self.venv)]
        )
        self.finish('environment', fingerprint)

    def install_requirements(self) -> None:
        """Install torch, then everything else with torch held fixed."""
        constraints = [REQUIREMENTS / 'torch.txt']
        if self.numpy:
            constraints.append(REQUIREMENTS / f'constraints-numpy-{self.numpy}.txt')
            if not constraints[-1].exists():
                raise SetupError(f'NUMPY={self.numpy}: there is no {constraints[-1]}')
        files = [
            REQUIREMENTS / f'{name}.txt'
            for name in ('runtime', 'ros-jazzy-wheels', 'test', 'lint')
        ]
        fingerprint = fingerprint_of([*constraints, *files])
        if self.is_current('requirements', fingerprint):
            return
        print(
            '[2/3] Python packages, about 1 GB: torch, ROS 2 wheels, simulator (a few minutes)',
            flush=True,
        )
        self.pip(
            *(f'--constraint={file}' for file in constraints[1:]),
            f'--requirement={REQUIREMENTS / "torch.txt"}',
        )
        self.pip(
            *(f'--constraint={file}' for file in constraints),
            *(f'--requirement={file}' for file in files),
        )
        self.finish('requirements', fingerprint)

    def build_interfaces(self) -> None:
        """Build the messages and install them, the programs and the share files."""
        inputs = [file for name in BUILD_INPUTS for file in files_in(SOURCE / name)]
        fingerprint = fingerprint_of(inputs)
        if self.is_current('interfaces', fingerprint):
            return
        print('[3/3] ROS 2 interfaces of this package (half a minute the first time)', flush=True)
        generated = 'lib/sqap_vla_ros/python'
        cmake_install(
            self.venv,
            self.state / 'cmake',
            self.venv,
            {'PYTHON_INSTALL_DIR': generated, 'SQAP_VLA_ROS_INSTALL_MODULES': 'OFF'},
            self.run,
        )
        (site_packages,) = self.venv.glob('lib/python3*/site-packages')
        (site_packages / 'sqap_vla_ros_checkout.pth').write_text(
            PATH_FILE.format(source=SOURCE, generated=self.venv / generated)
        )
        self.finish('interfaces', fingerprint)


def files_in(path: Path) -> list[Path]:
    """All files at or below a path, in a fixed order, without Python's caches."""
    if path.is_file():
        return [path]
    return sorted(
        file for file in path.rglob('*') if file.is_file() and '__pycache__' not in file.parts
    )


def fingerprint_of(files: Iterable[Path]) -> str:
    """Hash of names and contents."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f'{file.relative_to(SOURCE)} {len(content)}\n'.encode())
        digest.update(content)
    return digest.hexdigest()


def check_platform() -> None:
    """Raise where the ROS 2 wheels do not exist."""
    if (platform.system(), platform.machine()) != ('Linux', 'x86_64'):
        raise SetupError(
            'ROS 2 wheels exist for Linux on x86_64 only, this is '
            f'{platform.system()} on {platform.machine()}; use a ROS 2 install and '
            'colcon (see README)'
        )
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        raise SetupError(
            f'Python {platform.python_version()} has no ROS 2 wheels; choose one '
            'from 3.10 to 3.14: make setup PYTHON=python3.11'
        )


def main() -> int:
    """Parse arguments and set up; 2 and one line for what the user has to put right."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--venv', type=Path, default=SOURCE / '.venv')
    parser.add_argument('--numpy', default='', help='NumPy with a constraints file, e.g. 1.26')
    arguments = parser.parse_args()
    setup = Setup(Path(os.path.abspath(arguments.venv)), arguments.numpy)
    start_s = time.monotonic()
    try:
        check_platform()
        missing = missing_packages()
        if missing:
            print(f'[0/3] Debian packages: {" ".join(missing)}', flush=True)
            problem = install_packages(missing, subprocess.check_call)
            if problem:
                raise SetupError(problem)
        setup.make_environment()
        setup.install_requirements()
        setup.build_interfaces()
    except (SetupError, subprocess.CalledProcessError, OSError) as error:
        print(f'setup: {error}', file=sys.stderr)
        return 2
    print(f'setup: {setup.venv} is ready ({time.monotonic() - start_s:.1f} s)', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
