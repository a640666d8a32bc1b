from dataclasses import replace
from random import Random

import numpy as np
import pytest

from sqap_vla_ros.control import limits as limits_module
from sqap_vla_ros.control.audit import CommandAudit, Violation
from sqap_vla_ros.control.command import Command, STILL
from sqap_vla_ros.control.fuzz_limits import fuzz, main
from sqap_vla_ros.control.limits import CommandLimiter, MotionLimits
from sqap_vla_ros.control.velocity_limiter import VelocityLimiter

LIMITS = MotionLimits()


def audit(*velocities, period_s=0.02, stopping=False):
    checker = CommandAudit(LIMITS)
    for velocity in velocities:
        found = checker.check(Command([velocity, 0, 0], [0, 0, 0]), period_s, stopping)
    return found


def test_every_kind_of_violation_is_seen():
    assert audit(0.26) == {Violation.SPEED}
    assert audit(0.0, 0.031, 0.062) == {Violation.ACCELERATION}
    assert audit(0.0, 0.0, 0.013) == {Violation.JERK}
    assert audit(np.nan) == {Violation.NON_FINITE}
    checker = CommandAudit(LIMITS)
    assert checker.check(Command([0] * 3, [0] * 3, 1.5), 0.02) == {Violation.GRIPPER}
    assert checker.check(Command([0] * 3, [0, 0, 0.9]), 0.02) >= {Violation.SPEED}


def test_a_stop_has_its_own_limits():
    assert audit(0.2, 0.16, 0.12, stopping=True) == set()
    assert audit(0.2, 0.16, 0.12, stopping=False) == {Violation.ACCELERATION}
    assert audit(0.2, 0.155, 0.11, stopping=True) == {Violation.ACCELERATION}


def test_jitter_of_a_wire_is_allowed_for_as_configured():
    limiter, rng = CommandLimiter(LIMITS), Random(0)
    exact, lenient = CommandAudit(LIMITS), CommandAudit(LIMITS, jitter_s=0.004)
    late_s = 0.0
    for tick in range(300):
        wanted = Command([0.2, 0, 0], [0, 0, 0]) if tick % 60 < 30 else None
        command = limiter.limit(wanted, 0.02, (0, 0.6, 0.2))
        before_s, late_s = late_s, rng.uniform(0, 0.004)
        exact.check(command, 0.02 + late_s - before_s)
        lenient.check(command, 0.02 + late_s - before_s)
    assert exact.violations
    assert not lenient.violations


@pytest.mark.parametrize('lost', [7, 11, 13])
def test_a_command_that_a_wire_lost_is_no_violation_of_those_around_it(lost):
    limiter, rng = CommandLimiter(LIMITS), Random(lost)
    wire, exact = CommandAudit(LIMITS, jitter_s=1e-6), CommandAudit(LIMITS)
    since_s = 0.0
    for tick in range(600):
        wanted = Command([rng.choice((-0.2, 0.2)), 0, 0], [0, 0, 0]) if tick % 60 < 45 else None
        command = limiter.limit(wanted, 0.02, (0, 0.6, 0.2))
        since_s += 0.02
        if tick % lost == 0:
            continue
        for checker in (wire, exact):
            checker.check(command, since_s)
        since_s = 0.0
    assert not wire.violations
    assert exact.violations, 'the test does not reach the limit'


def test_what_breaks_the_jerk_limit_on_a_wire_is_still_seen():
    wire = CommandAudit(LIMITS, jitter_s=0.0005)
    for velocity, period_s in ((0.0, 0.02), (0.0, 0.04), (0.04, 0.02)):
        found = wire.check(Command([velocity, 0, 0], [0, 0, 0]), period_s)
    assert Violation.JERK in found


def test_a_reset_forgets_what_came_before():
    checker = CommandAudit(LIMITS)
    checker.check(Command([0.2, 0, 0], [0, 0, 0]), 0.02)
    checker.reset()
    assert not checker.check(Command([0, 0, 0], [0, 0, 0]), 0.02)


@pytest.mark.slow
def test_random_hostile_input_breaks_no_limit():
    violations, commands, stops = fuzz(range(2000))
    assert violations == {}
    assert commands > 50_000
    assert stops > 5_000


@pytest.mark.parametrize(
    'field, kind',
    [
        ('speed', Violation.SPEED),
        ('acceleration', Violation.ACCELERATION),
        ('jerk', Violation.JERK),
        ('stop_deceleration', Violation.ACCELERATION),
        ('stop_jerk', Violation.JERK),
        ('high', Violation.WORKSPACE),
    ],
)
def test_a_limiter_with_a_wrong_limit_is_caught(monkeypatch, field, kind):
    def wrong(limits):
        value = getattr(limits, field)
        if field == 'high':
            return VelocityLimiter(replace(limits, high=tuple(bound + 0.1 for bound in value)))
        return VelocityLimiter(replace(limits, **{field: value * 1.2}))

    monkeypatch.setattr(limits_module, 'VelocityLimiter', wrong)
    violations, _, _ = fuzz(range(60))
    assert violations[kind] > 0


def test_the_command_reports_and_fails_on_violations(monkeypatch, capsys):
    assert main(['--sequences', '4']) == 0
    assert 'violations' in capsys.readouterr().out
    monkeypatch.setattr(
        limits_module.CommandLimiter, 'limit', lambda *_: Command([9, 0, 0], [0, 0, 0])
    )
    assert main(['--sequences', '4']) == 1
    assert 'speed' in capsys.readouterr().out


def test_after_a_gap_any_velocity_within_the_limit_of_speed_may_come():
    limits = MotionLimits()
    fast = Command((limits.linear_speed_m_s, 0.0, 0.0), (0.0, 0.0, 0.0))
    for gap_s, broken in ((None, True), (0.1, False)):
        audit = CommandAudit(limits, gap_s=gap_s)
        audit.check(STILL, 0.02)
        assert bool(audit.check(fast, 0.11)) == broken
        assert audit.check(fast.scaled(1.1), 0.11) >= {Violation.SPEED}
