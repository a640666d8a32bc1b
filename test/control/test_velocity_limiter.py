from math import hypot, inf
from random import Random

import pytest

from sqap_vla_ros.control.velocity_limiter import GroupLimits, VelocityLimiter


def limiter_in_motion(rng):
    """Limiter in a random state that motion or a stop may have led to."""
    acceleration = 10 ** rng.uniform(-1, 1.5)
    jerk = 10 ** rng.uniform(0, 3)
    limits = GroupLimits(
        speed=10 ** rng.uniform(-2, 0.5),
        acceleration=acceleration,
        jerk=jerk,
        stop_deceleration=acceleration * rng.uniform(1, 4),
        stop_jerk=jerk * rng.uniform(1, 4),
        low=(-inf,) * 3,
        high=(inf,) * 3,
    )
    limiter = VelocityLimiter(limits)
    limiter.reset([rng.gauss(0, 1) * limits.speed for _ in range(3)])
    period_s = 10 ** rng.uniform(-3, -1)
    for _ in range(rng.randrange(6)):
        wanted = None if rng.random() < 0.3 else [rng.gauss(0, 1) for _ in range(3)]
        limiter.step(wanted, period_s, ())
    return limiter, period_s


@pytest.mark.parametrize('seed', range(400))
def test_a_stop_never_reaches_further_than_foretold(seed):
    rng = Random(seed)
    limiter, period_s = limiter_in_motion(rng)
    reach = limiter._stop_reach(limiter.velocity, limiter.acceleration, period_s)
    position, low, high = [0.0] * 3, [0.0] * 3, [0.0] * 3
    velocity = limiter.velocity
    for _ in range(100000):
        position = [at + speed * period_s for at, speed in zip(position, velocity)]
        low, high = list(map(min, low, position)), list(map(max, high, position))
        velocity = limiter.step(None, period_s, ())
        if not any(velocity):
            break
    assert not any(velocity)
    for (back, forth), lowest, highest in zip(reach, low, high):
        assert -lowest <= back + 1e-9
        assert highest <= forth + 1e-9


@pytest.mark.parametrize('seed', range(100))
def test_a_stop_takes_no_longer_with_uneven_periods(seed):
    rng = Random(seed)
    limiter, period_s = limiter_in_motion(rng)
    limits = limiter.limits
    ramp_s = hypot(*limiter.acceleration) / limits.stop_jerk
    speed = hypot(*limiter.velocity) + hypot(*limiter.acceleration) * ramp_s / 2
    bound_s = (
        ramp_s
        + speed / limits.stop_deceleration
        + 2 * (speed / limits.stop_jerk) ** 0.5
        + limits.stop_deceleration / limits.stop_jerk
        + 10 * period_s
    )
    passed_s = 0.0
    while hypot(*limiter.velocity) > 1e-6:
        each_s = period_s * rng.uniform(0.3, 1.5)
        limiter.step(None, each_s, ())
        passed_s += each_s
        assert passed_s < bound_s
