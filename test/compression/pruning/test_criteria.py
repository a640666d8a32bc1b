"""Each criterion against a small reference, and what holds for every selection."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from sqap_vla_ros.compression.pruning.coverage import farthest_points, grid_separation
from sqap_vla_ros.compression.pruning.criteria import draw_tokens, select_by_criteria, select_top
from sqap_vla_ros.compression.pruning.relevance import attention_row
from sqap_vla_ros.policy import Criterion

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


def brute_force_farthest(places, chosen, count):
    """Farthest point sampling by its definition, over all pairs at each step."""
    chosen, order = list(chosen), []
    for _ in range(count):
        distance = [
            min((np.hypot(*(places[i] - places[j])) for j in chosen), default=np.inf)
            for i in range(len(places))
        ]
        distance = [-1 if i in chosen else d for i, d in enumerate(distance)]
        order.append(int(np.argmax(np.float32(distance))))
        chosen.append(order[-1])
    return order


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


@settings(deadline=None, max_examples=100)
@given(st.sets(st.integers(0, TOKENS - 1), max_size=10), st.integers(1, 12))
def test_farthest_points_are_those_of_the_definition(chosen, count):
    places = np.array([(r, c) for r in range(GRID[0]) for c in range(GRID[1])], float)
    mask = torch.zeros(TOKENS, dtype=torch.bool)
    mask[list(chosen)] = True
    points = farthest_points(grid_separation(GRID), mask, count)
    assert points.tolist() == brute_force_farthest(places, chosen, count)


def test_coverage_fills_the_budget_from_what_is_kept():
    scores = torch.zeros(TOKENS)
    scores[9] = 1
    kept = select_by_criteria(scores, torch.full((TOKENS,), np.inf), grid_separation(GRID), 4, 1)
    places = np.array([(r, c) for r in range(GRID[0]) for c in range(GRID[1])], float)
    assert set(kept.indices.tolist()) == {9, *brute_force_farthest(places, [9], 3)}
    assert kept.criterion.tolist().count(Criterion.SPATIAL) == 3


def test_coverage_visits_every_camera():
    separation = grid_separation(GRID, cameras=3)
    assert separation.shape == (3 * TOKENS, 3 * TOKENS)
    mask = torch.zeros(3 * TOKENS, dtype=torch.bool)
    mask[5] = True
    first = farthest_points(separation, mask, 2) // TOKENS
    assert sorted(first.tolist()) == [1, 2]


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


@pytest.mark.parametrize('kv_heads', [1, 2, 4])
def test_attention_row_is_the_last_row_of_the_attention_matrix(kv_heads):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, 9, 8, generator=generator)
    key = torch.randn(kv_heads, 9, 8, generator=generator)
    logits = query @ key.repeat_interleave(4 // kv_heads, 0).transpose(1, 2) / 8**0.5
    mask = torch.ones(9, 9).triu(1).bool()
    matrix = logits.masked_fill(mask, -torch.inf).softmax(-1)
    row = attention_row(query[:, -1], key, slice(1, 6))
    assert torch.allclose(row, matrix[:, -1, 1:6].mean(0), atol=1e-6)
