"""Rows of the fault table: the clock of the observations jumps or stands still."""

import time

import pytest

CLOCK = True
"""This rig's policy node uses simulated time."""


@pytest.mark.parametrize('fault, reaction_s', [('back', 0.05), ('ahead', 0.05), ('pause', 0.55)])
def test_a_clock_that_jumps_or_stands_holds_the_arm(rig, trials, fault, reaction_s):
    for trial in trials(rig, f'clock: {fault}', 'queue flushed; hold', reaction_s + 0.02):
        rig.start()
        sent = len(rig.twists)
        now_s = time.monotonic()
        rig.inject(clock=fault)
        # Stamps of commands are on the broken clock: when they come tells the time here.
        trial.reacted(0, round((rig.stop_seen(sent) - now_s) * 1e9))
        rig.wait_state('HOLDING')
        rig.stopped()
        rate_hz = (len(rig.twists) - sent) / (time.monotonic() - now_s)
        assert rate_hz < 60, 'a burst of commands'
        rig.start()
