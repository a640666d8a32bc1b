"""Rows of the fault table: stops that are asked for while the node has much to do."""

from contextlib import ExitStack
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from support.circling import FAULT_FILE, SLACK
from support.dds import wait_until
from support.fault_rig import PATIENCE_S, TRANSPORT

COMPRESSED = 'camera/image_raw/compressed'
LIMIT_S = 0.05
PERCENTILE = 99 if SLACK <= 1 else 50
"""A machine that does other things as well sometimes does nothing else for a while."""
REACTION = f'answered (p{PERCENTILE})'
CALLS = 50 if SLACK <= 1 else 10
SERVICES = ('estop', 'hold') if SLACK <= 1 else ('estop',)
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4
LOADS = {
    'nothing': (),
    'raw 4K images, 10 Hz': ('raw_4k', 'faulty/camera/image_raw', '10'),
    '4K JPEG images, 10 Hz': ('jpeg_4k', COMPRESSED, '10'),
    'progressive JPEGs of 1000 scans': ('jpeg_scans', COMPRESSED, '10'),
    'joint states of a million names': ('many_names', 'faulty/joint_states', '2'),
    'processors busy': ('busy',),
}
if SLACK > 1:  # on a machine that is busy anyway these rows say nothing
    LOADS = {
        name: LOADS[name] for name in LOADS if name.split()[0] in ('raw', 'progressive', 'joint')
    }


def child(rig, *arguments):
    environment = {**os.environ, **rig.environment, **TRANSPORT}
    environment.pop(FAULT_FILE, None)
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def end(process):
    process.terminate()  # in order: a participant of DDS that vanishes is looked for by others
    process.wait(PATIENCE_S)


def answers(rig, service, calls=CALLS):
    """Time that answers of a service take, s, at the percentile."""
    user = child(rig, '-m', 'support.loads', 'ask', f'policy_node/{service}', str(calls), '0.05')
    text, _ = user.communicate(timeout=PATIENCE_S)
    return float(np.percentile(json.loads(text), PERCENTILE))


@pytest.mark.parametrize('load', LOADS)
def test_stops_are_answered_whatever_the_node_is_busy_with(rig, trials, load):
    arguments = LOADS[load]
    if arguments[1:2] == (COMPRESSED,):
        rig.process.stop()
        rig.states.clear()
        rig.process = rig.restart('-p', 'profile:=sim_sawyer_compressed')
        rig.wait_state('READY')
    for service in SERVICES:
        for trial in trials(rig, f'~/{service}; {load}', REACTION, LIMIT_S, True):
            rig.service('reset_estop')
            with ExitStack() as stack:
                if arguments == ('busy',):
                    for _ in range(os.cpu_count() or 1):
                        stack.callback(end, child(rig, '-c', 'while True: pass'))
                elif arguments:
                    publisher = child(rig, '-m', 'support.loads', 'publish', *arguments)
                    stack.callback(end, publisher)
                    topic = arguments[1]
                    assert wait_until(
                        lambda topic=topic: rig.client.count_publishers(topic), PATIENCE_S
                    )
                    time.sleep(2.0)  # its message has been made and has come
                trial.reacted(0, round(answers(rig, service) * 1e9))
    if arguments[1:2] == (COMPRESSED,):
        rig.process.stop()
        rig.states.clear()
        rig.process = rig.restart()
        rig.wait_state('READY')


def test_stops_are_answered_while_a_policy_is_loaded(rig, trials):
    for trial in trials(rig, '~/estop; a policy is loaded', REACTION, LIMIT_S):
        assert rig.lifecycle(DEACTIVATE) and rig.lifecycle(CLEANUP)
        rig.break_policy('slow_load')
        loading = rig.begin_lifecycle(CONFIGURE)
        time.sleep(0.5)
        trial.reacted(0, round(answers(rig, 'estop') * 1e9))
        assert not loading.done() and rig.state().startswith('ESTOPPED')
        rig.repair()
        assert wait_until(loading.done, PATIENCE_S) and loading.result().success
        assert rig.lifecycle(ACTIVATE) and rig.state().startswith('ESTOPPED')
        rig.service('reset_estop')
