from random import Random

import numpy as np
import pytest

from sqap_vla_ros.control.joint_limits import JointLimiter, JointLimits
from sqap_vla_ros.control.velocity_limiter import Limit

PERIOD_S = 0.01
SHOULDER = JointLimits(
    velocity=1.0,
    acceleration=5.0,
    jerk=100.0,
    position_low=-1.5,
    position_high=1.5,
    stop_deceleration=8.0,
    stop_jerk=200.0,
)
WRIST = JointLimits(velocity=3.0, acceleration=20.0)
JOINTS = {'shoulder': SHOULDER, 'wrist': WRIST}
AT_ZERO = {'wrist': 0.0, 'shoulder': 0.0}


def test_joints_are_told_apart_by_name_and_not_by_order():
    limiter = JointLimiter(JOINTS)
    for _ in range(100):
        velocities = limiter.limit(
            {'wrist': 2.0, 'shoulder': -0.5}, PERIOD_S, {'finger': 9.0, **AT_ZERO}
        )
    assert velocities == pytest.approx({'shoulder': -0.5, 'wrist': 2.0})


def test_too_fast_a_joint_slows_all_of_them_alike():
    limiter = JointLimiter(JOINTS)
    for _ in range(200):
        velocities = limiter.limit({'shoulder': 2.0, 'wrist': 2.0}, PERIOD_S, AT_ZERO)
    assert velocities == pytest.approx({'shoulder': 1.0, 'wrist': 1.0})
    assert Limit.SPEED in limiter.limited


@pytest.mark.parametrize(
    'wanted, positions, reason',
    [
        ({'shoulder': 0.1}, AT_ZERO, Limit.NON_FINITE),
        ({'shoulder': 0.1, 'wrist': np.nan}, AT_ZERO, Limit.NON_FINITE),
        ({'shoulder': 0.1, 'wrist': 0, 'elbow': 0}, AT_ZERO, Limit.NON_FINITE),
        ({'shoulder': 0.1, 'wrist': 0.1}, {'wrist': 0.0}, Limit.POSITION_UNKNOWN),
        (
            {'shoulder': 0.1, 'wrist': 0.1},
            {'wrist': 0.0, 'shoulder': np.nan},
            Limit.POSITION_UNKNOWN,
        ),
    ],
)
def test_a_missing_joint_stops_all_of_them(wanted, positions, reason):
    limiter = JointLimiter(JOINTS)
    limiter.reset({'shoulder': 0.5, 'wrist': 0.5})
    velocities = limiter.limit(wanted, PERIOD_S, positions)
    assert all(0 < velocity < 0.5 for velocity in velocities.values())
    assert limiter.limited == {reason}
    assert limiter.stopping


def test_random_motion_keeps_every_limit_and_range():
    rng = Random(1)
    limiter = JointLimiter(JOINTS)
    position, velocity, acceleration = dict(AT_ZERO), dict(AT_ZERO), dict(AT_ZERO)
    furthest = 0.0
    for tick in range(4000):
        if tick % 25 == 0:
            wanted = {name: rng.gauss(0, 2) for name in JOINTS}
            wanted['shoulder'] += 1.0  # towards its end
            wanted = None if rng.random() < 0.1 else wanted
        new = limiter.limit(wanted, PERIOD_S, position)
        for name, joint in JOINTS.items():
            change = (new[name] - velocity[name]) / PERIOD_S
            assert abs(new[name]) <= joint.velocity + 1e-9
            assert abs(change) <= joint.stop_deceleration + 1e-6
            if joint.jerk:
                assert abs(change - acceleration[name]) <= joint.stop_jerk * PERIOD_S + 1e-5
            acceleration[name], velocity[name] = change, new[name]
            position[name] += new[name] * PERIOD_S
            assert joint.position_low - 1e-6 <= position[name] <= joint.position_high + 1e-6
        furthest = max(furthest, position['shoulder'])
    assert limiter.counts[Limit.JOINT_POSITION] > 100
    assert furthest > 1.49


def test_a_reset_needs_every_joint():
    with pytest.raises(ValueError, match='wrist'):
        JointLimiter(JOINTS).reset({'shoulder': 0.0})
    with pytest.raises(ValueError, match='no joints'):
        JointLimiter({})


@pytest.mark.parametrize(
    'wrong, named',
    [
        ({'velocity': 0}, 'velocity'),
        ({'acceleration': np.nan}, 'acceleration'),
        ({'jerk': -1}, 'jerk'),
        ({'stop_deceleration': 1.0}, 'stop_deceleration'),
        ({'position_low': 1.0, 'position_high': 0.0}, 'position_low'),
        ({'position_low': np.nan}, 'position_low'),
        ({'position_margin': np.inf}, 'position_margin'),
    ],
)
def test_a_wrong_limit_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        JointLimits(**{'velocity': 1.0, 'acceleration': 2.0, **wrong})
