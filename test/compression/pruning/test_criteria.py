"""The criteria against small references, and what holds for every selection."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from sqap_vla_ros.compression.pruning.coverage import grid_separation
from sqap_vla_ros.compression.pruning.criteria import draw_tokens, select_by_criteria, select_top
from sqap_vla_ros.policy import Criterion

from support.farthest_points import brute_force_farthest

GRID = (4, 6)
TOKENS = 24


@st.composite
def cases(draw):
    """Scores, protection, budget and attention share of a 4 x 6 grid."""
    scores = torch.tensor(
        draw(
            st.lists(
                st.one_of(st.floats(0, 1, width=32), st.just(float('nan'))),
                min_size=TOKENS,
                max_size=TOKENS,
            )
        )
    )
    protected = draw(st.sets(st.integers(0, TOKENS - 1), max_size=TOKENS))
    distances = draw(st.lists(st.floats(0, 0.2), min_size=TOKENS, max_size=TOKENS))
    protection = torch.tensor([d if i in protected else np.inf for i, d in enumerate(distances)])
    budget = draw(st.integers(1, TOKENS))
    return scores, protection.float(), budget, draw(st.integers(0, budget))


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_budget_is_met_exactly_in_ascending_order_without_repetition(case):
    scores, protection, budget, relevant_count = case
    kept = select_by_criteria(scores, protection, grid_separation(GRID), budget, relevant_count)
    indices = kept.indices.tolist()
    assert len(indices) == len(kept.criterion) == budget
    assert indices == sorted(set(indices)) and indices[0] >= 0 and indices[-1] < TOKENS


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(cases())
def test_protected_tokens_stay_and_the_nearest_first_where_they_do_not_all_fit(case):
    scores, protection, budget, relevant_count = case
    kept = select_by_criteria(scores, protection, grid_separation(GRID), budget, relevant_count)
    protected = set(torch.nonzero(protection.isfinite())[:, 0].tolist())
    staying = protected & set(kept.indices.tolist())
    assert len(staying) == min(budget, len(protected))
    left = [float(protection[i]) for i in protected - staying]
    assert not left or max(float(protection[i]) for i in staying) <= min(left) + 1e-6
    named = kept.indices[kept.criterion == Criterion.ROBOT].tolist()
    assert set(named) == staying


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_highest_scores_stay_in_what_protection_leaves(case):
    scores, protection, budget, relevant_count = case
    scores = torch.nan_to_num(scores) + torch.arange(TOKENS) * 1e-3
    kept = select_by_criteria(scores, protection, grid_separation(GRID), budget, relevant_count)
    protected = protection.isfinite()
    wanted = [i for i in scores.topk(relevant_count).indices.tolist() if not protected[i]]
    room = max(0, budget - int(protected.sum()))
    named = kept.indices[kept.criterion == Criterion.ATTENTION].tolist()
    assert sorted(named) == sorted(wanted[:room])


def test_coverage_fills_the_budget_from_what_is_kept():
    scores = torch.zeros(TOKENS)
    scores[9] = 1
    kept = select_by_criteria(scores, torch.full((TOKENS,), np.inf), grid_separation(GRID), 4, 1)
    places = np.array([(r, c) for r in range(GRID[0]) for c in range(GRID[1])], float)
    assert set(kept.indices.tolist()) == {9, *brute_force_farthest(places, [9], 3)}
    assert kept.criterion.tolist().count(Criterion.SPATIAL) == 3


@settings(deadline=None)
@given(
    st.lists(st.floats(-1, 1, width=32), min_size=TOKENS, max_size=TOKENS, unique=True),
    st.integers(1, TOKENS),
)
def test_select_top_keeps_the_highest_scores(scores, budget):
    kept = select_top(torch.tensor(scores), budget)
    assert kept.indices.tolist() == sorted(np.argsort(scores)[::-1][:budget].tolist())


def test_random_selection_is_repeatable_and_changes_from_call_to_call():
    def draw(generator):
        return draw_tokens(TOKENS, 10, generator).tolist()

    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    runs = [[draw(g), draw(g)] for g in (first, second)]
    assert runs[0] == runs[1] and runs[0][0] != runs[0][1]
    assert runs[0][0] == sorted(set(runs[0][0])) and len(runs[0][0]) == 10
