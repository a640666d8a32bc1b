"""
Which visual tokens stay: a fixed budget, filled by three criteria (SQAP-VLA, arXiv 2509.09090).

1. Robot: patches near the projected end effector are kept, whatever attention says.
2. Attention: the tokens that the task query attends to most. Low-bit noise moves the middle of
   that ranking; its top is stable.
3. Coverage: farthest point sampling fills what is left, starting from what is kept so far.

Robot goes before attention goes before coverage where the budget is short. Shapes depend on the
budget only, never on the data, and no number is brought from the host (`masked_fill`, not `where`
with a number), so that the whole selection can be part of a CUDA graph.
"""

from typing import NamedTuple

import torch

from sqap_vla_ros.kernels import cpu
from sqap_vla_ros.policy import Criterion


class Kept(NamedTuple):
    """The outcome of a selection."""

    indices: torch.Tensor
    """int64 [budget], ascending."""
    criterion: torch.Tensor
    """uint8 [budget], a Criterion each."""


def attention_row(query: torch.Tensor, key: torch.Tensor, visual: slice) -> torch.Tensor:
    """
    Attention of one query to each visual token, mean over heads.

    query: [heads, d], the task query's; key: [kv_heads, N, d], heads / kv_heads queries share a
    key (grouped-query attention); visual: where the visual tokens are among the N. The softmax is
    over all N: the task query is last and sees everything. Returns float32 [visual].
    """
    grouped = query.unflatten(0, (key.shape[0], -1)).float()
    logits = grouped @ key.float().transpose(1, 2) / query.shape[-1] ** 0.5
    return logits.softmax(-1)[:, :, visual].mean((0, 1))


def select_top(
    scores: torch.Tensor, budget: int, relevance: Criterion = Criterion.ATTENTION
) -> Kept:
    """Keep the `budget` highest of scores [V]; relevance: what the scores are."""
    return all_for(relevance, scores.topk(budget).indices.sort().values)


def all_for(criterion: Criterion, indices: torch.Tensor) -> Kept:
    """Keep these tokens [budget], ascending, all by one criterion."""
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

    scores: [V], the higher the more relevant; protection: float [V], rank among protected tokens
    (the lower the earlier), infinite for tokens without protection; separation: [V, V], see
    `farthest_points`; relevant_count: tokens that the scores may take, at most the budget;
    relevance, coverage: what scores and separation are, for the record.
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


def farthest_points(separation: torch.Tensor, chosen: torch.Tensor, count: int) -> torch.Tensor:
    """
    Farthest point sampling: each time the point that is farthest from all that are chosen.

    separation: float [V, V], distances with -1 on the diagonal; chosen: bool [V], what it starts
    from (nothing: it starts from point 0). Ties go to the lower index. Returns int64 [count], in
    the order of choice; indices repeat only where more are asked for than there are.
    """
    nearest = separation.masked_fill(~chosen[:, None], torch.inf).amin(0)
    if nearest.device.type == 'cpu' and nearest.dtype == torch.float32 and cpu.available():
        return cpu.farthest_points(separation.contiguous(), nearest, count)
    points = []
    for _ in range(count):
        point = nearest.argmax(0, keepdim=True)
        points.append(point)
        nearest = torch.minimum(nearest, separation.index_select(0, point)[0])
    return torch.cat(points)


def grid_separation(grid: tuple[int, int], cameras: int = 1) -> torch.Tensor:
    """
    Distances between patches, float32 [V, V], in patches; -1 on the diagonal.

    Patches of different cameras are farther from each other than any two of one camera.
    """
    rows, columns = grid
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    place = torch.stack((row.flatten(), column.flatten()), -1).float()
    separation = torch.cdist(place, place, compute_mode='donot_use_mm_for_euclid_dist')
    if cameras > 1:
        apart = torch.full_like(separation, float(rows + columns))
        separation = torch.cat(
            [
                torch.cat([separation if i == j else apart for j in range(cameras)], 1)
                for i in range(cameras)
            ]
        )
    return separation.fill_diagonal_(-1)


def _marked(indices, like):
    """Mark these indices: bool of the shape of `like`."""
    return torch.zeros_like(like, dtype=torch.bool).scatter(0, indices, True)


def _rank(scores):
    """Scores [V] to ranks in [0, 1], 1 for the highest; free of the scores' range and of NaN."""
    order = scores.argsort(stable=True)
    ranks = torch.empty_like(scores)
    ranks[order] = torch.linspace(0, 1, len(scores), dtype=scores.dtype, device=scores.device)
    return ranks
