"""Child processes end in every case, and DDS domains are free ones."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from sqap_vla_ros.ros.common.middleware import FAST_DDS_PROFILES
from sqap_vla_ros.system import child_process
from sqap_vla_ros.system.child_process import (
    ChildProcess,
    isolated_environment,
    pick_domain_id,
    wait_until,
)

from support.processes import runs

POLITE = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (print("good bye", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def start(code, tmp_path):
    child = ChildProcess(
        'child', [sys.executable, '-c', code], tmp_path / 'child.log', dict(os.environ)
    )
    assert wait_until(lambda: child.log.read_text().strip(), 20)
    return child


def test_a_polite_child_is_asked_and_its_last_line_kept(tmp_path):
    child = start(POLITE, tmp_path)
    assert child.status is None
    assert child.stop() == 0
    assert child.last_line() == 'good bye'
    assert child.stop() == 0


def test_a_stubborn_child_is_killed_with_all_it_started(tmp_path, monkeypatch):
    child = start(STUBBORN, tmp_path)
    grandchild = int(child.log.read_text())
    assert runs(grandchild)
    assert child.stop(patience_s=0.2) == -signal.SIGKILL
    assert wait_until(lambda: not runs(grandchild), 10)


def test_a_child_that_says_nothing_has_a_last_line_too(tmp_path):
    child = ChildProcess('child', [sys.executable, '-c', ''], tmp_path / 'log', dict(os.environ))
    assert child.wait(20) == 0
    assert child.last_line() == '(no output)'


def test_a_child_ends_when_its_starter_is_killed(tmp_path):
    code = (
        f'import os, sys; from pathlib import Path\n'
        f'from sqap_vla_ros.system.child_process import ChildProcess\n'
        f'child = ChildProcess("child", [sys.executable, "-c", "import time; time.sleep(60)"],'
        f' Path({str(tmp_path / "log")!r}), dict(os.environ))\n'
        f'print(child.pid, flush=True)\n'
        f'os.kill(os.getpid(), 9)'
    )
    starter = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60
    )
    assert starter.returncode == -signal.SIGKILL
    assert wait_until(lambda: not runs(int(starter.stdout)), 10)


def test_a_domain_whose_port_is_taken_is_not_picked(monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('', 0))
        monkeypatch.setattr(child_process, '_FIRST_PORT', taken.getsockname()[1] - 250 * 7 - 10)
        assert not child_process._ports_free(7)


def test_a_domain_is_picked_within_what_every_platform_has():
    assert 1 <= pick_domain_id() <= 101


@pytest.mark.parametrize(
    'given, expected',
    [
        ({}, True),
        ({'RMW_IMPLEMENTATION': 'rmw_fastrtps_dynamic_cpp'}, True),
        ({'RMW_IMPLEMENTATION': 'rmw_zenoh_cpp'}, False),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': '/mine.xml'}, False),
        ({'FASTDDS_DEFAULT_PROFILES_FILE': '/mine.xml'}, False),
    ],
)
def test_the_environment_is_isolated_and_has_room_for_images(
    tmp_path, monkeypatch, given, expected
):
    for name in ('RMW_IMPLEMENTATION', *FAST_DDS_PROFILES):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    profiles = tmp_path / 'profiles.xml'
    profiles.write_text('<dds/>')
    environment = isolated_environment(42, profiles)
    assert environment['ROS_DOMAIN_ID'] == '42'
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    added = {name: str(profiles) for name in FAST_DDS_PROFILES} if expected else {}
    shown = {name: environment[name] for name in FAST_DDS_PROFILES if name in environment}
    assert shown == {name: given[name] for name in given if name in FAST_DDS_PROFILES} | added
