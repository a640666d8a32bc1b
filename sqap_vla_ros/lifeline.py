"""Ends a process together with another one, however that one ends."""

import fcntl
import os
import select
import signal


def end_when_closed(descriptor: int) -> None:
    """
    Kill this process as soon as nobody holds the write end of a pipe any more.

    The process that must not be outlived creates the pipe, keeps the write end for as long as it
    lives, and passes the read end on. The kernel then sends SIGKILL, so that no code of this
    process has to run for it, however busy it is. A parent-death signal (prctl) would come as
    soon as the *thread* that started this process ends. Where this process leads a process group,
    all of the group is killed: compilers and helpers that it has started.

    Args:
        descriptor: Read end of the pipe; nothing is ever written to it.
    """
    leader = os.getpgrp() == os.getpid()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpid() if leader else os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    # It may have been closed before anybody was told to watch it.
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    if watch.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)
