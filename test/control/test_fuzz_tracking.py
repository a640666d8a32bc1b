"""The fuzz command finds nothing, and it would find something."""

from sqap_vla_ros.control.fuzz_tracking import fuzz, main


def test_random_arms_and_sensors_break_nothing(capsys):
    assert main(['--steps', '6000']) == 0
    assert '0 violations, 0 excursions' in capsys.readouterr().out


def found(scenarios, seed=0):
    return set(fuzz(scenarios, 300, seed).faults)
