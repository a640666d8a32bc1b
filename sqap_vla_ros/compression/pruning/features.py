"""Relevance and diversity of visual tokens by what they hold, without any attention."""

import torch
from torch.nn.functional import normalize


def feature_separation(features: torch.Tensor) -> torch.Tensor:
    """
    Cosine distance of every two tokens, 1 - cos: [V, width] -> float32 [V, V].

    -1 on the diagonal, as `farthest_points` wants it: with this separation it is the greedy
    max-min choice of VLA-Pruner (arXiv 2511.16449).
    """
    direction = normalize(features.float(), dim=-1)
    return (1 - direction @ direction.T).clamp_min_(0).fill_diagonal_(-1)


def difference_from_mean(features: torch.Tensor) -> torch.Tensor:
    """
    How far each token is from the mean of all: [V, width] -> float32 [V].

    Most of an image is background, and so is its mean token: what differs from it is an object,
    or the robot.
    """
    features = features.float()
    return (features - features.mean(0)).norm(dim=-1)
