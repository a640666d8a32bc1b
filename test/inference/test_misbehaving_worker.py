"""A worker that hangs, dies or talks nonsense at any moment costs a deadline, and nothing else."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from threading import Event, Thread
import time

import numpy as np
import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceFailed, ProcessInference
from sqap_vla_ros.inference.same_policy import PolicyChanged
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.system.child_process import wait_until

from support.processes import runs
from support.raw_worker import FLOOD_BYTES, INFO, WRONG

pytestmark = pytest.mark.slow

DEADLINE_S = 1.0
RESTARTS = 20
SOON_S = 20.0
"""Of what takes milliseconds on an idle machine."""


@pytest.fixture
def client_of(monkeypatch):
    """Make a client whose worker misbehaves in a way of `support.raw_worker`."""
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    clients = []

    def make(mode, **limits):
        limits = {'deadline_s': DEADLINE_S, 'load_timeout_s': 60.0, **limits}
        clients.append(ProcessInference(mode, module='support.raw_worker', **limits))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def observation(**changes):
    values = {'images': {'camera': np.zeros((6, 8, 3), np.uint8)}, 'instruction': 'go'}
    return Observation(**{**values, 'stamp_ns': 7, **changes})


def failure_of(client, asked=None):
    with pytest.raises(InferenceFailed) as failure:
        client.infer(asked or observation())
    assert '\n' not in str(failure.value) and len(str(failure.value)) < 1200
    return failure.value


def replaced(client, pid):
    """Assert that the worker is gone and reaped, and that another one can take its place."""
    assert client.pid is None and not Path(f'/proc/{pid}').exists()
    client.start()
    assert client.pid not in (None, pid)


@pytest.mark.parametrize('how', ['half', 'half_a_header', 'dripping', 'hanging'])
def test_an_answer_that_is_not_whole_at_the_deadline_is_none(client_of, how):
    client = client_of(f'answering_{how}')
    client.start()
    pid, begun_s = client.pid, time.monotonic()
    failure = failure_of(client)
    assert failure.reason == 'deadline' and '1 s' in str(failure)
    assert DEADLINE_S <= time.monotonic() - begun_s < SOON_S
    replaced(client, pid)


def test_a_worker_that_does_not_read_its_request_misses_the_deadline_too(client_of):
    client = client_of('deaf')
    client.start()
    pid = client.pid
    assert failure_of(client, observation(instruction='x' * 2**22)).reason == 'deadline'
    replaced(client, pid)


def test_a_stopped_worker_is_killed_at_the_deadline(client_of):
    client = client_of('good')
    client.start()
    pid = client.pid
    os.kill(pid, signal.SIGSTOP)
    assert failure_of(client).reason == 'deadline'
    replaced(client, pid)


@pytest.mark.parametrize('how', ['endless', 'garbage', 'nested', 'a_list', 'empty', 'stale'])
def test_what_is_no_answer_is_refused_without_waiting_and_the_worker_replaced(client_of, how):
    client = client_of(f'answering_{how}', deadline_s=60.0)
    client.start()
    pid, begun_s = client.pid, time.monotonic()
    assert failure_of(client).reason == 'broken'
    assert time.monotonic() - begun_s < SOON_S
    replaced(client, pid)


def test_a_second_answer_is_not_taken_for_the_next(client_of):
    client = client_of('answering_twice')
    client.start()
    assert client.infer(observation()).chunk.values[0, 0] == 0.5
    assert failure_of(client).reason == 'broken'


def test_an_answer_that_does_not_fit_the_policy_is_an_error_and_the_worker_kept(client_of):
    client = client_of('good', deadline_s=60.0)
    client.start()
    pid = client.pid
    for wrong in WRONG:
        assert failure_of(client, observation(instruction=wrong)).reason == 'error', wrong
    client.check()
    assert client.pid == pid and client.infer(observation()).chunk.finite


@pytest.mark.parametrize('how', ['nan', 'null'])
def test_values_that_are_no_numbers_reach_whoever_drops_such_chunks(client_of, how):
    client = client_of(f'answering_{how}')
    client.start()
    assert not client.infer(observation()).chunk.finite


@pytest.mark.parametrize('how', ['dead', 'closed'])
def test_a_worker_that_ends_while_it_is_asked_is_told_how(client_of, how):
    client = client_of(f'answering_{how}', deadline_s=60.0)
    client.start()
    failure = failure_of(client)
    assert failure.reason == 'died'
    assert ('exit status 3' if how == 'dead' else 'closed its connection') in str(failure)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_a_worker_without_work_is_seen_without_asking_it(client_of, number):
    client = client_of('good')
    client.start()
    client.check()
    os.kill(client.pid, number)

    def ended():
        try:
            client.check()
        except InferenceFailed as failure:
            return str(failure)

    assert wait_until(ended, SOON_S) and client.pid is None
    client.start()
    assert client.infer(observation()).chunk.finite


def test_a_worker_that_speaks_unasked_is_not_trusted_any_more(client_of):
    client = client_of('unasked')
    client.start()

    def out_of_step():
        try:
            client.check()
        except InferenceFailed as failure:
            return failure.reason == 'broken'

    assert wait_until(out_of_step, SOON_S)


def test_a_flood_of_output_blocks_nobody(client_of, capfd):
    client = client_of('answering_talkative', deadline_s=120.0)
    client.start()
    assert client.infer(observation()).chunk.finite
    output = capfd.readouterr()
    assert len(output.out) >= FLOOD_BYTES and len(output.err) >= FLOOD_BYTES


@pytest.mark.parametrize(
    'how, told',
    [
        ('hanging', 'not loaded within 1 s; if it only needs longer, set policy_load_timeout_s'),
        ('half', 'not loaded within 1 s'),
        ('dripping', 'not loaded within 1 s'),
        ('dead', 'ended while it loaded (exit status 3)'),
        ('closed', 'ended while it loaded'),
        ('endless', 'not one of this package: it has 4294967295 bytes'),
        ('garbage', 'not one of this package'),
        ('a_list', 'not one of this package'),
        ('empty', 'not one of this package'),
    ],
)
def test_a_load_that_comes_to_nothing_is_one_line(client_of, how, told):
    client = client_of(f'loading_{how}', load_timeout_s=1.0 if 'within' in told else 60.0)
    begun_s = time.monotonic()
    with pytest.raises(UserError) as error:
        client.start()
    assert told in str(error.value) and '\n' not in str(error.value)
    assert time.monotonic() - begun_s < SOON_S and client.pid is None


@pytest.mark.parametrize('mode', ['loading_hanging', 'loading_half', 'answering_hanging'])
def test_closing_ends_what_another_thread_waits_for(client_of, mode):
    client = client_of(mode, deadline_s=600.0, load_timeout_s=600.0)
    said, loaded = [], Event()

    def work():
        try:
            client.start()
            loaded.set()
            client.infer(observation())
        except (UserError, InferenceFailed) as error:
            said.append(error)

    thread = Thread(target=work)
    thread.start()
    assert wait_until(lambda: client.pid, SOON_S)
    assert mode.startswith('loading') or loaded.wait(SOON_S)
    time.sleep(0.5)  # it waits
    pid = client.pid
    client.close()
    thread.join(SOON_S)
    assert not thread.is_alive() and not runs(pid) and client.pid is None
    if mode.startswith('loading'):
        assert isinstance(said[0], UserError) and 'cancelled' in str(said[0])
    else:
        assert said[0].reason == 'died'
    with pytest.raises(UserError, match='cancelled'):
        client.start()
    client.close()


@pytest.mark.parametrize(
    'different, told',
    [
        (
            {
                'spec': {
                    **INFO['spec'],
                    'action': {**INFO['spec']['action'], 'names': ['linear.y']},
                }
            },
            "action.names was ['linear.x'], is ['linear.y']",
        ),
        ({'spec': {**INFO['spec'], 'cameras': ['wrist']}}, 'cameras was'),
        ({'description': {'recipe': 'other'}}, "recipe was 'raw', is 'other'"),
        ({'description': {'recipe': 'raw', 'sha256': 'f00'}}, 'sha256 was'),
        ({'files': {'config.json': '1'}}, 'file config.json differs'),
        ({'files': {}}, 'file config.json differs'),
    ],
)
def test_another_policy_in_the_place_of_the_first_is_refused(client_of, tmp_path, different, told):
    changes = tmp_path / 'changes'
    changes.write_text('{}')
    client = client_of(str(changes))
    client.start()
    first = client.info
    changes.write_text(json.dumps(different))
    for _ in range(2):
        with pytest.raises(PolicyChanged) as error:
            client.start()
        assert told in str(error.value) and '\n' not in str(error.value)
        assert client.pid is None and client.info == first
        assert failure_of(client).reason == 'died'
    changes.write_text('{"warm_up_ms": 9.0, "description": {"recipe": "raw", "backend": "other"}}')
    client.start()  # the same policy, which runs in another way
    assert client.infer(observation()).chunk.finite


def test_restarts_leave_neither_zombies_nor_files(client_of):
    client = client_of('good')
    client.start()

    def held():
        mine = Path(f'/proc/{os.getpid()}')
        children = (mine / 'task' / str(os.getpid()) / 'children').read_text().split()
        return len(list((mine / 'fd').iterdir())), len(children)

    before = held()
    for round_ in range(RESTARTS):
        if round_ % 2:
            os.kill(client.pid, signal.SIGKILL)
        client.start()
    assert held() == before


def test_what_a_worker_has_started_ends_with_it(client_of):
    client = client_of('with_helper')
    client.start()
    helper = client.info.description['helper']
    assert runs(helper)
    client.close()
    assert wait_until(lambda: not runs(helper), SOON_S)


NODE = """
import os, sys, threading, time
from sqap_vla_ros.inference.client import ProcessInference
client = ProcessInference({mode!r}, module={module!r}, load_timeout_s=600, deadline_s=600)
starter = threading.Thread(target=client.start)  # it ends; the worker must not end with it
starter.start()
while client.pid is None: time.sleep(0.01)
if {loaded}:
    starter.join()
time.sleep(1.0)
print(client.pid, client.info.description['helper'] if {loaded} else 0, flush=True)
os.kill(client.pid, 0)
os.kill(os.getpid(), 9)
"""
BUSY = """
import sys
def load(*_):
    import re
    print('busy', flush=True)
    re.match('(a+)+$', 'a' * 64 + 'b')  # for ever, and no other thread of Python runs meanwhile
"""


@pytest.mark.parametrize('loaded', [True, False], ids=['loaded', 'loading'])
def test_a_killed_node_leaves_no_worker(client_of, tmp_path, monkeypatch, loaded):
    (tmp_path / 'busy_worker.py').write_text(
        f'{BUSY}\nfrom sqap_vla_ros.inference.worker import main\nsys.exit(main(load=load))\n'
    )
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), *sys.path]))
    module = 'support.raw_worker' if loaded else 'busy_worker'
    node = subprocess.run(
        [sys.executable, '-c', NODE.format(mode='with_helper', module=module, loaded=loaded)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert node.returncode == -signal.SIGKILL
    for pid in map(int, node.stdout.splitlines()[-1].split()):
        assert not pid or wait_until(lambda pid=pid: not runs(pid), SOON_S)


def test_a_worker_whose_node_is_gone_before_it_looks_ends_at_once(tmp_path):
    read, write = os.pipe()
    os.close(write)
    code = f'from sqap_vla_ros.lifeline import end_when_closed; end_when_closed({read}); print(1)'
    done = subprocess.run(
        [sys.executable, '-c', code], pass_fds=[read], stdout=subprocess.PIPE, timeout=60
    )
    os.close(read)
    assert done.returncode == -signal.SIGKILL and not done.stdout
