"""How a process with a node ends: in order, on every signal, whatever it is doing."""

import os
import signal
import sys
import time

import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.ros.common.node_process import ENDING
from sqap_vla_ros.system.child_process import ChildProcess, isolated_environment

from support.dds import domain, wait_until

PROGRAM = """
import sys, threading, time
from rclpy.node import Node
from sqap_vla_ros.ros.common.node_process import run_node

def say(text):
    sys.stdout.write(text + '\\n')  # one write: two threads speak
    sys.stdout.flush()

class Slow(Node):
    def __init__(self):
        super().__init__('slow')
        self.released = threading.Event()
        self.create_timer(0.01, self.work)
    def begin(self):
        say('begun')
        if 'begin' in sys.argv:
            self.released.wait(100)
    def work(self):
        if 'callback' in sys.argv:
            self.released.wait(100)
        if 'error' in sys.argv:
            raise ValueError('a callback')
    def interrupt(self, why):
        say('interrupted ' + why)
        self.released.set()
    def close(self):
        time.sleep(0.5)
        say('closed')
        if 'bad_end' in sys.argv:
            raise ValueError('the end')

sys.exit(run_node('slow', Slow, sys.argv))
"""


@pytest.fixture
def start(tmp_path):
    processes = []

    def begun(*arguments, prefix=()):
        environment = isolated_environment(domain())
        environment['PYTHONPATH'] = os.pathsep.join(sys.path)
        command = [*prefix, sys.executable, '-c', PROGRAM, *arguments]
        process = ChildProcess('slow', command, tmp_path / 'log', environment)
        processes.append(process)
        assert wait_until(lambda: 'begun' in process.log.read_text(), 60), process.log.read_text()
        return process

    yield begun
    for process in processes:
        process.stop()


@pytest.mark.parametrize('number', ENDING, ids=lambda number: number.name)
def test_every_signal_that_ends_a_process_ends_it_in_order(start, number):
    process = start('idle')
    os.kill(process.pid, number)
    assert process.wait(30) == 0
    assert f'interrupted {number.name}\nclosed\n' in process.log.read_text()


@pytest.mark.parametrize('where', ['begin', 'callback'])
def test_a_signal_is_told_while_the_node_is_busy(start, where):
    process = start(where)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0 and 'interrupted SIGTERM\nclosed' in process.log.read_text()


def test_further_signals_do_not_cut_the_end_short(start):
    process = start('idle')
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(process.pid, number)
        time.sleep(0.05)
    assert process.wait(30) == 0 and process.log.read_text().count('closed') == 1


def test_a_node_under_nohup_outlives_its_terminal(start):
    process = start('idle', prefix=('nohup',))
    os.kill(process.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert process.status is None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0


def test_errors_of_callbacks_and_of_the_end_are_lines_and_no_tracebacks(start):
    process = start('error', 'bad_end')
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    log = process.log.read_text()
    assert log.count('timer work: failed: ValueError: a callback') == 1
    assert 'slow: while it ended: ValueError: the end' in log and 'Traceback' not in log


def test_what_of_the_command_line_has_no_effect_is_logged_once_by_every_node(start):
    process = start('idle', '--ros-args', '-p', 'rate:=1', '-r', 'nothing:=x', '-r', '/tf:=tf')
    time.sleep(1.5)  # it looks at the graph every second
    log = process.log.read_text()
    assert log.count("parameter 'rate' is not one of this node") == 1
    assert log.count('no topic, service or action /nothing') == 1 and log.count('WARN') == 2
