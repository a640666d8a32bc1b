"""
Run the tests of the C++ kernels under AddressSanitizer and UndefinedBehaviorSanitizer.

Builds csrc/ into the virtual environment with SQAP_VLA_SANITIZE, preloads the sanitizers'
libraries into Python, and runs the tests that call the kernels. The first report ends the run.
"""

import argparse
import os
from pathlib import Path
import shutil
import subprocess
import sys

from cmake_install import SOURCE

LIBRARY = 'libsqap_vla_kernels.so'
TESTS = ('test/kernels/test_cpu_kernels.py',)
# Python and torch leak on purpose; a report must end the process, or no test would fail of it.
OPTIONS = {
    'ASAN_OPTIONS': 'detect_leaks=0:halt_on_error=1:abort_on_error=1',
    'UBSAN_OPTIONS': 'halt_on_error=1:abort_on_error=1:print_stacktrace=1',
}


def runtime_library(name: str) -> str:
    """Path of a sanitizer's library that belongs to the compiler; raises SystemExit."""
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler) is None:
        raise SystemExit(f'sanitize: no {compiler}; install a C++ compiler with sanitizers')
    path = subprocess.check_output([compiler, f'-print-file-name={name}'], text=True).strip()
    if not Path(path).is_absolute():
        raise SystemExit(f'sanitize: {compiler} has no {name}; install the sanitizers of GCC')
    return path


def build(venv: Path) -> Path:
    """Build the kernels with sanitizers; returns the library."""
    folder = venv / 'sanitize'
    cmake = str(venv / 'bin' / 'cmake')
    definitions = ('-DCMAKE_BUILD_TYPE=Release', '-DSQAP_VLA_SANITIZE=ON')
    subprocess.check_call(
        [cmake, '-S', str(SOURCE / 'csrc'), '-B', str(folder), *definitions],
        stdout=subprocess.DEVNULL,
    )
    subprocess.check_call(
        [cmake, '--build', str(folder), '--parallel', str(os.cpu_count() or 1)],
        stdout=subprocess.DEVNULL,
    )
    return folder / LIBRARY


def main() -> int:
    """Build and test; the exit status is that of the tests."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--venv', type=Path, default=SOURCE / '.venv')
    parser.add_argument('arguments', nargs='*', help='further arguments of pytest')
    options = parser.parse_args()
    venv = Path(os.path.abspath(options.venv))
    preload = [runtime_library(name) for name in ('libasan.so', 'libubsan.so')]
    environment = {
        **os.environ,
        **OPTIONS,
        'LD_PRELOAD': ' '.join(preload),
        'SQAP_VLA_KERNELS_LIBRARY': str(build(venv)),
    }
    python = str(venv / 'bin' / 'python')
    done = subprocess.run(
        [
            python,
            '-m',
            'pytest',
            '-q',
            '-x',
            '-p',
            'no:faulthandler',
            '--capture=sys',
            *TESTS,
            *options.arguments,
        ],
        cwd=SOURCE,
        env=environment,
        check=False,
    )
    print('sanitize:', 'no report' if done.returncode == 0 else 'failed', flush=True)
    return 1 if done.returncode else 0


if __name__ == '__main__':
    sys.exit(main())
