"""Coverage: farthest point sampling over image positions or token features."""

import torch
from torch.nn.functional import normalize

from sqap_vla_ros.kernels import cpu


def farthest_points(separation: torch.Tensor, chosen: torch.Tensor, count: int) -> torch.Tensor:
    """
    Farthest point sampling: repeatedly pick the point farthest from all points picked so far.

    Ties go to the lower index.

    Args:
        separation: float [V, V], pairwise distances with -1 on the diagonal.
        chosen: bool [V], points to start from. If none is set, sampling starts from point 0.
        count: how many points to pick.

    Returns:
        int64 [count], in the order of choice. Indices repeat only if `count` exceeds the number
        of points left.
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
    Pairwise distances between the patches of all cameras, in patches.

    Patches of different cameras are farther apart than any two patches of one camera.

    Args:
        grid: rows and columns of patches of one camera.
        cameras: number of cameras; their patches follow each other.

    Returns:
        float32 [V, V], -1 on the diagonal.
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


def feature_separation(features: torch.Tensor) -> torch.Tensor:
    """
    Pairwise cosine distances between tokens, 1 - cos.

    With this separation, `farthest_points` is the greedy max-min choice of VLA-Pruner
    (arXiv 2511.16449).

    Args:
        features: [V, width].

    Returns:
        float32 [V, V], -1 on the diagonal.
    """
    direction = normalize(features.float(), dim=-1)
    cosine: torch.Tensor = direction @ direction.T
    return (1 - cosine).clamp_min_(0).fill_diagonal_(-1)
