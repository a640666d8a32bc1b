"""Rows of the fault table: the policy answers nonsense, too late, or not at all."""

import os
import signal
import time

import pytest

from support.circling import CHUNK_S
from support.dds import wait_until
from support.fault_rig import PATIENCE_S

NEXT_INFERENCE_S = 0.2
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4


@pytest.mark.parametrize('fault', ['nan', 'infinite', 'wrong_shape', 'error'])
def test_unusable_chunks_are_dropped_and_three_in_a_row_hold(rig, trials, fault):
    limit_s = 3 * NEXT_INFERENCE_S + 0.1
    for trial in trials(rig, f'chunk: {fault}', 'dropped, counted; hold after 3', limit_s):
        rig.start()
        fault_ns = rig.break_policy(fault)
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING: bad chunks')
        rig.stopped()
        if fault in ('nan', 'infinite'):
            rig.wait_diagnostic('chunks: non-finite')
        rig.start()


def test_one_bad_chunk_is_survived(rig, trials):
    for _ in trials(rig, 'chunk: one with NaN', 'dropped; goes on'):
        rig.start()
        rig.break_policy('nan_once')
        rig.goes_on()


def test_actions_out_of_range_are_limited_and_held_when_they_last(rig, trials):
    limit_s = NEXT_INFERENCE_S + 3.0 + 0.5
    for trial in trials(rig, 'chunk: 80 m/s', 'limited; sustained: hold', limit_s):
        rig.start()
        fault_ns = rig.break_policy('fast')
        rig.wait_state('HOLDING: sustained saturation')
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.stopped()
        rig.wait_diagnostic('limited: ')
        rig.start()


def test_an_overrun_executes_the_rest_of_the_chunk_then_decelerates(rig, trials):
    limit_s = NEXT_INFERENCE_S + CHUNK_S + 0.02
    for trial in trials(rig, 'inference: 1.5 chunks long', 'rest of chunk, then hold', limit_s):
        rig.start()
        fault_ns = rig.break_policy('overrun')
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING: queue underrun')
        rig.stopped()
        rig.start()


def test_a_slow_inference_within_the_chunk_does_not_stop_the_arm(rig, trials):
    for _ in trials(rig, 'inference: 0.3 s', 'goes on'):
        rig.start()
        rig.break_policy('slow')
        rig.goes_on(2.0)


@pytest.mark.parametrize(
    'fault, name',
    [('hang', 'hangs'), ('half', 'half an answer, then hangs')],
    ids=['hang', 'half'],
)
def test_a_hanging_inference_is_ended_at_its_deadline_and_replaced(rig, trials, fault, name):
    limit_s = NEXT_INFERENCE_S + CHUNK_S + 0.02
    for trial in trials(rig, f'inference: {name}', 'hold; worker replaced', limit_s):
        rig.start()
        pid = rig.worker_pid()
        fault_ns = rig.break_policy(fault)
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING')
        rig.stopped()
        assert wait_until(lambda pid=pid: rig.worker_pid() not in (None, pid), PATIENCE_S)
        rig.start()
        assert 'deadline' in rig.log()


def kill(rig):
    now_ns = time.time_ns()
    os.kill(rig.worker_pid(), signal.SIGKILL)
    return now_ns


@pytest.mark.parametrize(
    'how', [kill, lambda rig: rig.break_policy('die')], ids=['SIGKILL', 'exit']
)
def test_a_dead_worker_holds_the_arm_and_is_replaced(rig, trials, how, request):
    name = request.node.callspec.id
    for trial in trials(rig, f'worker: {name}', 'hold; worker replaced', NEXT_INFERENCE_S + 0.1):
        rig.start()
        fault_ns = how(rig)
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING: inference failed')
        rig.stopped()
        rig.start()


@pytest.mark.parametrize('state', ['READY', 'HOLDING'])
def test_a_worker_that_dies_without_work_is_replaced_at_once(rig, trials, state):
    for trial in trials(rig, f'worker: SIGKILL in {state}', 'worker replaced; no motion', 0.5):
        rig.start()
        rig.service('hold')
        rig.stopped()
        if state == 'READY':
            assert rig.lifecycle(DEACTIVATE) and rig.lifecycle(ACTIVATE)
        rig.wait_state(state)
        pid, before = rig.worker_pid(), rig.log()
        fault_ns = kill(rig)
        assert wait_until(
            lambda before=before: 'inference died' in rig.log()[len(before) :], PATIENCE_S, 0.01
        )
        trial.reacted(fault_ns, time.time_ns())
        assert wait_until(lambda pid=pid: rig.worker_pid() not in (None, pid), PATIENCE_S)
        assert rig.state().startswith(state)
        rig.start()


def test_another_policy_in_the_place_of_the_first_never_runs(rig, trials):
    for _ in trials(rig, 'policy replaced, worker dies', 'UNREADY; no motion'):
        rig.start()
        rig.break_policy('swapped')  # read when a worker starts
        kill(rig)
        rig.wait_state('UNREADY: policy changed: policy circle: it was replaced')
        assert 'action.names was' in rig.state() and rig.state().count('\n') == 0
        rig.stopped()
        answer = rig.service('resume')
        assert not answer.success and 'it was replaced' in answer.message
        result = rig.result(rig.goal())
        assert result.reason == 'refused' and 'it was replaced' in result.message
        rig.stopped()
        rig.repair()
        for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
            assert rig.lifecycle(transition), rig.explain()
        rig.start()


def test_out_of_memory_holds_and_one_retry_keeps_the_worker(rig, trials):
    for trial in trials(rig, 'CUDA out of memory, once', 'hold; retried', NEXT_INFERENCE_S + 0.1):
        rig.start()
        pid = rig.worker_pid()
        fault_ns = rig.break_policy('out_of_memory_once')
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING: inference failed: out_of_memory')
        rig.stopped()
        rig.start()
        assert rig.worker_pid() == pid


def test_out_of_memory_again_is_an_error_and_replaces_the_worker(rig, trials):
    for trial in trials(
        rig, 'CUDA out of memory, stays', 'hold; worker replaced', NEXT_INFERENCE_S + 0.1
    ):
        rig.start()
        pid = rig.worker_pid()
        fault_ns = rig.break_policy('out_of_memory')
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING: inference failed: out_of_memory')
        rig.stopped()
        rig.start()
        assert rig.worker_pid() != pid
