"""Relevance: how much each visual token matters to the task."""

import torch


def attention_row(query: torch.Tensor, key: torch.Tensor, visual: slice) -> torch.Tensor:
    """
    Attention of one query to each visual token, averaged over the heads.

    The softmax runs over all N tokens: the task query is the last token and attends to all of
    them.

    Args:
        query: [heads, d], the task query.
        key: [kv_heads, N, d]. With grouped-query attention, heads / kv_heads queries share a key.
        visual: position of the V visual tokens among the N.

    Returns:
        float32 [V].
    """
    grouped = torch.unflatten(query, 0, (key.shape[0], -1)).float()
    logits = grouped @ key.float().transpose(1, 2) / query.shape[-1] ** 0.5
    return logits.softmax(-1)[:, :, visual].mean((0, 1))


def difference_from_mean(features: torch.Tensor) -> torch.Tensor:
    """
    Distance of each token from the mean of all tokens; needs no attention.

    Most of an image is background, and so is its mean token. A token that differs from the mean
    shows an object or the robot.

    Args:
        features: [V, width].

    Returns:
        float32 [V].
    """
    features = features.float()
    return (features - features.mean(0)).norm(dim=-1)
