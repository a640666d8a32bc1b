"""Rows of the fault table: valid measurements that are wrong, and time that is lost."""

import os
import signal
import time

import pytest

from support.circling import SPEED_M_S


@pytest.mark.parametrize(
    'row, fault, limit_s, reason',
    [
        # On the circle the last pose is the limit of 5 cm away after 0.7 s.
        ('frozen, new stamps', 'freeze', 1.5, ''),
        ('10 cm off', 'elsewhere', 0.15, ' jumped'),
    ],
)
def test_a_pose_that_is_valid_and_wrong_holds_the_arm(rig, trials, row, fault, limit_s, reason):
    for trial in trials(rig, f'pose: {row}', 'hold', limit_s):
        rig.start()
        fault_ns = rig.inject(pose=fault)
        trial.reacted(fault_ns, rig.stop_began(fault_ns))
        rig.wait_state(f'HOLDING: tracking error: position of the end effector{reason}')
        rig.stopped()
        rig.repair()
        rig.stopped()
        rig.start()


def test_a_pose_that_is_late_by_its_stamp_does_not_stop_the_arm(rig, trials):
    for _ in trials(rig, 'pose: 0.3 s late', 'goes on'):
        rig.start()
        rig.inject(pose='delay', delay_s=0.3)
        time.sleep(0.5)  # poses come again
        rig.cruise()


def test_after_a_stall_of_the_node_the_arm_goes_on_from_what_is_measured(rig, trials):
    for _ in trials(rig, 'node stalled for 0.3 s', 'goes on, ramps in'):
        rig.start()
        os.kill(rig.process.pid, signal.SIGSTOP)
        time.sleep(0.3)
        known = len(rig.twists)
        os.kill(rig.process.pid, signal.SIGCONT)
        rig.cruise()
        (before, _), *later = rig.twists[known - 1 :]
        after = next(speed for stamp, speed in later if stamp - before > 200_000_000)
        # Without commands the simulated arm stops, the stand-in as well.
        assert after < 1.05 * SPEED_M_S
