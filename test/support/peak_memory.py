"""
Run a command and print its time and its peak anonymous memory (RssAnon; Linux).

    cd test && python -m support.peak_memory COMMAND ARGUMENTS...

Anonymous memory is what a process allocates itself; the kernel can drop pages of mapped files at
any time.
"""

import os
from pathlib import Path
import subprocess
import sys
import time

PERIOD_S = 0.1


def anonymous_bytes(pid: int) -> int:
    """Read RssAnon of a process; 0 once it has ended."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('RssAnon'))


def main() -> int:
    """Run and report."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(sys.argv[1:])
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(PERIOD_S)
    cpu = os.times()
    busy_s = cpu.children_user + cpu.children_system
    print(
        f'{time.monotonic() - started:.0f} s, {busy_s:.0f} s of CPU, peak anonymous memory '
        f'{peak / 1e9:.2f} GB, exit code {process.returncode}'
    )
    return process.returncode


if __name__ == '__main__':
    sys.exit(main())
