"""The fuzz command finds nothing, and each of its references would find something."""

import pytest

from sqap_vla_ros.control.command_space import CommandSpace
from sqap_vla_ros.control.fuzz_references import Fault
from sqap_vla_ros.control.fuzz_tracking import fuzz, main, TICKS
from sqap_vla_ros.control.joint_space import JointSpace
from sqap_vla_ros.control.plausibility import PathTracker


def test_random_arms_and_sensors_break_nothing(capsys):
    assert main(['--steps', '4000']) == 0
    assert '0 violations, 0 excursions' in capsys.readouterr().out


def as_measured(tracker, now_ns):
    return (tracker._recent[-1].measured,) * 2 if tracker._recent else None


def forgetful_stand(tracker, record, stand=PathTracker._stand):
    tracker._stood = None
    stand(tracker, record)


@pytest.mark.parametrize(
    'scenario, owner, name, broken, fault',
    [
        (29, PathTracker, 'span', as_measured, Fault.OUTSIDE),
        (240, PathTracker, '_stand', forgetful_stand, Fault.OUTSIDE),
        (46, PathTracker, 'problem', lambda *_: None, Fault.UNNOTICED),
        (78, PathTracker, 'reference', PathTracker.place, Fault.POSITION_STEP),
        (78, JointSpace, 'withdraw', lambda *_: None, Fault.WITHDRAWN),
        (193, CommandSpace, 'after_gap', lambda *_: None, Fault.AFTER_GAP),
    ],
    ids=['age', 'stood', 'error', 'reference', 'withdraw', 'gap'],
)
def test_what_is_broken_is_found(monkeypatch, scenario, owner, name, broken, fault):
    assert not fuzz([scenario], TICKS).faults
    monkeypatch.setattr(owner, name, broken)
    assert fuzz([scenario], TICKS).faults[fault]
