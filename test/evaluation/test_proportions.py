"""Intervals and tests against published values and by brute force."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
import pytest

from sqap_vla_ros.evaluation.proportions import (
    mcnemar_exact,
    paired_difference,
    percent,
    wilson_interval,
)


def test_wilson_interval_agrees_with_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_holds_the_share(successes, trials):
    successes = min(successes, trials)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12 and successes / trials - 1e-12 <= high <= 1


@pytest.mark.parametrize(('first', 'second'), product(range(6), range(6)))
def test_mcnemar_agrees_with_counting_all_outcomes(first, second):
    total = first + second
    extreme = sum(
        1
        for flips in product((0, 1), repeat=total)
        if abs(sum(flips) - total / 2) >= abs(first - total / 2)
    )
    assert mcnemar_exact(first, second) == pytest.approx(extreme / 2**total)


def test_paired_difference_is_zero_for_twins_and_signed():
    difference, low, high = paired_difference(0, 0, 1200)
    assert difference == 0 and -0.005 < low < 0 < high < 0.005
    difference, low, high = paired_difference(10, 40, 1000)
    assert difference == pytest.approx(-0.03) and low < -0.03 < high < 0
    assert paired_difference(0, 0, 0) == (0.0, -1.0, 1.0)


def test_percent_is_for_people():
    assert percent(43, 50) == '86 % [74-93]'
