"""
Which visual tokens stay: a fixed budget, filled by three criteria (SQAP-VLA, arXiv 2509.09090).

1. Robot (`protection`): patches near the projected end effector are kept, whatever the attention.
2. Relevance (`relevance`): the tokens that matter most to the task, for example those that the
   task query attends to most. Low-bit noise changes the middle of that ranking; its top is stable.
3. Coverage (`coverage`): farthest point sampling fills the rest, starting from the kept tokens.

Where the budget is short, robot comes before relevance and relevance before coverage. Shapes
depend on the budget only, never on the data, and no number is copied from the host
(`masked_fill`, not `where` with a number). The whole selection can therefore be part of a CUDA
graph.
"""

from typing import NamedTuple

import torch

from sqap_vla_ros.compression.pruning.coverage import farthest_points
from sqap_vla_ros.policy import Criterion


class Kept(NamedTuple):
    """The outcome of a selection."""

    indices: torch.Tensor
    """int64 [budget], ascending."""
    criterion: torch.Tensor
    """uint8 [budget], a Criterion each."""


def select_top(
    scores: torch.Tensor, budget: int, relevance: Criterion = Criterion.ATTENTION
) -> Kept:
    """
    Keep the tokens with the highest scores.

    Args:
        scores: [V].
        budget: how many tokens to keep.
        relevance: the criterion that the scores stand for, for the record.
    """
    return all_for(relevance, scores.topk(budget).indices.sort().values)


def all_for(criterion: Criterion, indices: torch.Tensor) -> Kept:
    """Keep these tokens (int64 [budget], ascending), all for one criterion."""
    return Kept(indices, torch.full_like(indices, criterion, dtype=torch.uint8))


def draw_tokens(tokens: int, budget: int, generator: torch.Generator) -> torch.Tensor:
    """Draw `budget` of `tokens` tokens without replacement: int64 [budget], ascending."""
    return torch.randperm(tokens, generator=generator)[:budget].sort().values


def select_by_criteria(
    scores: torch.Tensor,
    protection: torch.Tensor,
    separation: torch.Tensor,
    budget: int,
    relevant_count: int,
    relevance: Criterion = Criterion.ATTENTION,
    coverage: Criterion = Criterion.SPATIAL,
) -> Kept:
    """
    Keep `budget` tokens by the three criteria.

    Args:
        scores: [V], higher is more relevant.
        protection: float [V], rank among the protected tokens (lower is admitted earlier);
            infinite for tokens that are not protected.
        separation: [V, V], see `farthest_points`.
        budget: how many tokens to keep.
        relevant_count: how many tokens the scores may choose, at most the budget.
        relevance: the criterion that the scores stand for, for the record.
        coverage: the criterion that the separation stands for, for the record.
    """
    protected = protection.isfinite()
    relevant = _marked(scores.topk(relevant_count).indices, protected)
    # A key whose order is the order of admission: 3..2 protected, 1..0 relevant, below 0 neither.
    key = torch.where(
        protected, 2 + 1 / (1 + protection), _rank(scores).masked_fill(~relevant, -1.0)
    )
    admitted = _marked(key.topk(budget).indices, protected) & (key >= 0)
    count = budget - relevant_count
    if count:
        points = farthest_points(separation, admitted, count)
        order = -torch.arange(2, count + 2, dtype=key.dtype, device=key.device)
        rest = torch.full_like(key, -torch.inf).scatter_reduce(0, points, order, 'amax')
        key = torch.where(admitted, key, rest)
    indices = key.topk(budget).indices.sort().values
    reason = torch.full_like(protected, coverage, dtype=torch.uint8)
    reason = reason.masked_fill(relevant, relevance).masked_fill(protected, Criterion.ROBOT)
    return Kept(indices, reason[indices])


def _marked(indices: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bool mask of the shape of `like`, true at these indices."""
    return torch.zeros_like(like, dtype=torch.bool).scatter(0, indices, True)


def _rank(scores: torch.Tensor) -> torch.Tensor:
    """Ranks of scores [V] in [0, 1], 1 for the highest; independent of their range and of NaN."""
    order = scores.argsort(stable=True)
    ranks = torch.empty_like(scores)
    ranks[order] = torch.linspace(0, 1, len(scores), dtype=scores.dtype, device=scores.device)
    return ranks
