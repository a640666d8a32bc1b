"""Rows of the fault table: the policy answers nonsense, too late, or not at all."""

import os
import signal
import time

import pytest

from support.circling import CHUNK_S

NEXT_INFERENCE_S = 0.2


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


def test_a_hanging_inference_is_ended_at_its_deadline_and_replaced(rig, trials):
    limit_s = NEXT_INFERENCE_S + CHUNK_S + 0.02
    for trial in trials(rig, 'inference: hangs', 'hold; worker replaced', limit_s):
        rig.start()
        pid = rig.worker_pid()
        fault_ns = rig.break_policy('hang')
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING')
        rig.stopped()
        rig.start()
        assert rig.worker_pid() != pid
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
