"""One worker process: its start, what is shared with it, and its end."""

import argparse
from contextlib import ExitStack, suppress
import os
import signal
import socket
import subprocess
import time

from sqap_vla_ros.inference.channel import Channel
from sqap_vla_ros.inference.wire import SharedImages

HANDLES = ('--socket', '--memory', '--lifeline')
"""Options of a worker that `WorkerProcess` appends: file descriptors."""
KILL_LIMIT_S = 5.0
"""A process that waits for a device in the kernel dies later than it is killed, or never."""


def worker_parser() -> argparse.ArgumentParser:
    """Make a parser of the command line of a worker, with the options that are appended."""
    parser = argparse.ArgumentParser()
    for option in HANDLES:
        parser.add_argument(option, type=int, required=True)
    parser.add_argument('--policy', required=True)
    return parser


class WorkerProcess:
    """
    A worker with a session of its own, so that it is killed with all that it has started.

    It ends with this process, also where that is killed: see `lifeline`. One thread at a time may
    use it; `interrupt` may be called from any.

    Args:
        command: Program and arguments; the handles of what is shared are appended.
        environment: Its environment variables.

    Raises:
        OSError: The process cannot be started; nothing is left over.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        with ExitStack() as ours, ExitStack() as theirs:
            near, far = socket.socketpair()
            self.channel = Channel(near)
            ours.callback(self.channel.close)
            theirs.callback(far.close)
            self.images = SharedImages.create()
            ours.callback(self.images.close)
            watched, lifeline = os.pipe()
            ours.callback(os.close, lifeline)
            theirs.callback(os.close, watched)
            handles = dict(zip(HANDLES, (far.fileno(), self.images.descriptor, watched)))
            self._process = subprocess.Popen(
                [*command, *(text for pair in handles.items() for text in map(str, pair))],
                pass_fds=tuple(handles.values()),
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._ours = ours.pop_all()

    @property
    def pid(self) -> int:
        """Process, session and group id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has exited; it is not reaped by asking."""
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:  # reaped, or the system reaps: SIGCHLD is ignored
            return True

    def interrupt(self) -> None:
        """Kill it; a thread that waits for it goes on at once."""
        self._kill()
        self.channel.shut_down()

    def end(self, patience_s: float = 0.0) -> str:
        """
        Kill it and what it has started, reap it, and free what was shared.

        Args:
            patience_s: How long it may take to exit by itself, where it is on its way.

        Returns:
            How it ended, for a message.
        """
        self.channel.close()
        limit_s = time.monotonic() + patience_s
        while not self.ended and time.monotonic() < limit_s:
            time.sleep(0.01)
        itself = self.ended
        # Before it is reaped: until then no other process can have its number.
        self._kill()
        with suppress(subprocess.TimeoutExpired):  # `subprocess` reaps it later
            self._process.wait(KILL_LIMIT_S)
        self._ours.close()
        code = self._process.returncode
        if not itself or code is None:
            return 'it closed its connection and did not exit'
        if code >= 0:
            return f'exit status {code}'
        hint = '; was the memory exhausted?' if code == -signal.SIGKILL else ''
        return f'killed by {signal.Signals(-code).name}{hint}'

    def _kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
