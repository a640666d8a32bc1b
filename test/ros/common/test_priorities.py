"""Threads that must not wait have another priority, and give it to no others."""

import os
from threading import get_native_id, Thread

from sqap_vla_ros.ros.common.priorities import preferred


def niceness_of_a_new_thread():
    found = []
    thread = Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, get_native_id())))
    thread.start()
    thread.join()
    return found[0]


def test_threads_that_are_started_meanwhile_are_preferred_and_later_ones_are_not():
    before = niceness_of_a_new_thread()
    try:
        os.setpriority(os.PRIO_PROCESS, get_native_id(), before - 1)
        os.setpriority(os.PRIO_PROCESS, get_native_id(), before)
        allowed = True
    except OSError:
        allowed = False
    with preferred():
        during = niceness_of_a_new_thread()
    assert during == (-10 if allowed else before)
    assert niceness_of_a_new_thread() == before


def test_without_the_permission_nothing_happens(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, 'setpriority', refuse)
    with preferred():
        pass
