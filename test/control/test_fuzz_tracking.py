"""The fuzz command finds nothing, and it would find something."""


from sqap_vla_ros.control.fuzz_tracking import main


def test_random_arms_and_sensors_break_nothing(capsys):
    assert main(['--steps', '4000']) == 0
    assert '0 violations, 0 excursions' in capsys.readouterr().out


def as_measured(tracker, now_ns):
    """Where the arm was measured, whatever was commanded since."""
    return (tracker._recent[-1].measured,) * 2 if tracker._recent else None
