"""The fuzz command finds nothing, and it would find something."""

import pytest

from sqap_vla_ros.control.command_space import CommandSpace
from sqap_vla_ros.control.commanded_path import CommandedPath
from sqap_vla_ros.control.fuzz_references import Fault
from sqap_vla_ros.control.fuzz_tracking import fuzz, main
from sqap_vla_ros.control.joint_space import JointSpace
from sqap_vla_ros.control.plausibility import PathTracker


def test_random_arms_and_sensors_break_nothing(capsys):
    assert main(['--steps', '4000']) == 0
    assert '0 violations, 0 excursions' in capsys.readouterr().out


def as_measured(tracker, now_ns):
    """Where the arm was measured, whatever was commanded since."""
    return (tracker._recent[-1].measured,) * 2 if tracker._recent else None
