"""Child processes that never outlive their parent, and a DDS domain of their own."""

from collections.abc import Callable
from contextlib import suppress
import ctypes
from functools import partial
import os
from pathlib import Path
import random
import signal
import socket
import subprocess
import time

from sqap_vla_ros.ros.common.middleware import image_transport_variables

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
# RTPS 9.6.1: port base, 250 ports a domain, unicast of participant 0 at offsets 10 and 11.
_FIRST_PORT = 7400


class ChildProcess:
    """
    One process with its output in a log file.

    It has its own session, so that Ctrl-C in a terminal reaches only the parent, which then stops
    it in order. The kernel sends it SIGTERM if the parent is killed; more exactly, when the thread
    that starts it ends, so it must be one that lives as long as the process.

    Args:
        name: Name for messages.
        command: Program and arguments.
        log: File for its output.
        environment: Its environment variables.

    """

    def __init__(
        self, name: str, command: list[str], log: Path, environment: dict[str, str]
    ) -> None:
        self.name, self.log = name, log
        with open(log, 'wb') as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=partial(_end_with, os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Process and session id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; returns the exit status, or None if it still runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, patience_s: float = 8.0) -> int | None:
        """Stop it with SIGINT, SIGTERM, then SIGKILL to its session; returns the exit status."""
        for number, wait_s in ((signal.SIGINT, patience_s), (signal.SIGTERM, 3.0)):
            if self.status is None:
                self._process.send_signal(number)
                self.wait(wait_s)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # also what it has started and left running
        return self.wait(3.0)

    def last_line(self) -> str:
        """Return the last line of its log that is not blank."""
        text = self.log.read_text('utf-8', 'replace')
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else '(no output)'


def isolated_environment(domain_id: int, profiles: Path | None = None) -> dict[str, str]:
    """
    Make the environment of ROS processes that communicate only with each other, on this machine.

    Args:
        domain_id: ROS domain.
        profiles: See `image_transport_variables`; None: nothing is set.

    Returns:
        All environment variables.
    """
    environment = dict(
        os.environ,
        ROS_DOMAIN_ID=str(domain_id),
        PYTHONUNBUFFERED='1',
        ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
    )
    if profiles is not None and profiles.exists():
        environment |= image_transport_variables(profiles, environment)
    return environment


def pick_domain_id() -> int:
    """Find a DDS domain (1 .. 101) whose ports are free on this machine."""
    candidates = list(range(1, 102))
    random.SystemRandom().shuffle(candidates)
    return next((domain for domain in candidates if _ports_free(domain)), candidates[0])


def wait_until(condition: Callable[[], object], timeout_s: float, period_s: float = 0.05) -> bool:
    """Poll until `condition()` is true; returns False after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(period_s)
    return True


def _ports_free(domain_id: int) -> bool:
    for offset in (10, 11):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', _FIRST_PORT + 250 * domain_id + offset))
            except OSError:
                return False
    return True


def _end_with(parent: int) -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before the kernel was told
        os._exit(1)
