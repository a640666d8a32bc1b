"""Rows of the fault table: what the robot tells is late, missing or wrong."""

import time

import pytest

from support.circling import OBSERVATION_TIMEOUT_S

LIMIT_S = OBSERVATION_TIMEOUT_S + 0.02


@pytest.mark.parametrize(
    'stream, fault',
    [
        ('image', 'drop'),
        ('image', 'old_stamp'),
        ('image', 'wrong_encoding'),
        ('image', 'bad_step'),
        ('image', 'truncated'),
        ('image', 'empty'),
        ('image', 'huge'),
        ('pose', 'drop'),
        ('pose', 'nan'),
        ('pose', 'infinite'),
        ('pose', 'zero_quaternion'),
        ('pose', 'wrong_frame'),
        ('joints', 'drop'),
        ('joints', 'missing'),
        ('joints', 'nan'),
        ('joints', 'wrong_length'),
    ],
)
def test_without_valid_input_the_arm_is_held_in_time(rig, trials, stream, fault):
    for trial in trials(rig, f'{stream}: {fault}', 'hold', LIMIT_S):
        rig.start()
        fault_ns = rig.inject(**{stream: fault})
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING: stale input')
        rig.stopped()
        assert not rig.service('resume').success
        if fault != 'drop':
            rig.wait_diagnostic('rejected ')
        rig.start()


def test_late_images_hold_the_arm(rig, trials):
    for trial in trials(rig, 'image: late', 'hold', LIMIT_S):
        rig.start()
        fault_ns = rig.inject(image='delay', delay_s=3 * OBSERVATION_TIMEOUT_S)
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state('HOLDING')
        rig.stopped()
        rig.start()


def test_when_images_come_again_nothing_moves_by_itself(rig, trials):
    for _ in trials(rig, 'image: back after a stall', 'no motion without ~/resume'):
        rig.start()
        rig.inject(image='drop')
        rig.wait_state('HOLDING: stale input')
        rig.stopped()
        rig.repair()
        rig.stopped()
        assert rig.state().startswith('HOLDING')
        rig.start()


@pytest.mark.parametrize(
    'stream, fault',
    [('image', 'reorder'), ('image', 'flood'), ('joints', 'reversed'), ('joints', 'flood')],
)
def test_harmless_disorder_does_not_stop_the_arm(rig, trials, stream, fault):
    for _ in trials(rig, f'{stream}: {fault}', 'goes on'):
        rig.start()
        rig.inject(**{stream: fault}, copies=3)
        rig.goes_on()


def test_a_frozen_camera_is_reported(rig, trials):
    for trial in trials(rig, 'image: frozen, new stamps', 'warning', 2.0):
        rig.start()
        fault_ns = rig.inject(image='freeze')
        rig.wait_diagnostic('is frozen: same image, new stamps')
        trial.reacted(fault_ns, time.time_ns())
        rig.goes_on(0.3)
