"""The token budget falls before deadlines are missed and rises again without swinging."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
import pytest

from sqap_vla_ros.control.governor import GovernorConfig, TokenGovernor

LIMIT_S = 0.2


def run(governor, count, latency_of, fine=False):
    """Run `count` inferences; returns the shares used."""
    shares = []
    for _ in range(count):
        share = governor.share(fine)
        shares.append(share)
        governor.answered(share, latency_of(share), LIMIT_S)
    return shares


def test_a_quick_policy_keeps_its_whole_budget():
    assert set(run(TokenGovernor(), 200, lambda share: 0.05)) == {1.0}


def test_the_budget_falls_before_a_deadline_is_missed():
    """Latency creeps up; at each level it is proportional to the tokens."""
    governor, missed = TokenGovernor(), 0
    for step in range(300):
        share = governor.share(False)
        latency_s = (0.1 + 0.0004 * step) * (0.3 + 0.7 * share)
        missed += latency_s > LIMIT_S
        governor.answered(share, latency_s, LIMIT_S)
    assert governor.level > 0 and missed == 0


def test_one_missed_deadline_lowers_at_once():
    governor = TokenGovernor()
    governor.answered(1.0, 1.5 * LIMIT_S, LIMIT_S)
    assert governor.share(False) == 0.8


def test_one_slow_inference_within_the_limit_does_not():
    governor = TokenGovernor()
    for latency_s in (0.19, 0.1) * 20:
        governor.answered(governor.share(False), latency_s, LIMIT_S)
    assert governor.level == 0


def test_it_rises_again_when_there_is_time():
    governor = TokenGovernor()
    run(governor, 20, lambda share: 1.0)
    assert governor.share(False) == 0.4
    run(governor, 40, lambda share: 0.01)
    assert governor.share(False) == 1.0


def test_between_the_thresholds_nothing_changes():
    governor = TokenGovernor()
    governor.answered(1.0, 1.0, LIMIT_S)
    assert set(run(governor, 500, lambda share: 0.65 * LIMIT_S)) == {0.8}


def test_a_level_that_is_too_much_is_tried_ever_more_seldom():
    """0.8 is quick enough to look like room for more, 1.0 is too slow: it must not swing."""
    governor = TokenGovernor()
    shares = run(governor, 1000, lambda share: 0.09 if share < 1 else 0.25)
    swings = sum(a < b for a, b in itertools.pairwise(shares))
    assert swings <= 1000 / 10 / 4
    assert shares.count(1.0) < 30


def test_fine_motion_gets_the_whole_budget_whatever_the_level():
    governor = TokenGovernor()
    run(governor, 20, lambda share: 1.0)
    assert governor.level == 3 and governor.share(fine=True) == 1.0
    run(governor, 20, lambda share: 0.01, fine=True)
    assert governor.level == 3, 'fine inferences tell nothing about the lower level'


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=200))
def test_a_share_is_always_one_of_the_levels(latencies):
    governor = TokenGovernor()
    for latency_s, fine in latencies:
        share = governor.share(fine)
        assert share in governor.config.levels
        before = governor.level
        governor.answered(share, latency_s, LIMIT_S)
        assert abs(governor.level - before) <= 1


@pytest.mark.parametrize(
    'wrong',
    [
        {'levels': ()},
        {'levels': (0.5, 0.8)},
        {'levels': (1.0, 0.0)},
        {'levels': (1.2, 1.0)},
        {'raise_at': 0.9},
        {'lower_at': 1.2},
        {'raise_after': 0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GovernorConfig(**wrong)
