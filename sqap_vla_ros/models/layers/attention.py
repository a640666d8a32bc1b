"""The one attention function of all models."""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = 'sqap_vla_ros'


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """
    Compute scaled dot-product attention, with grouped queries where there are fewer keys.

    Args:
        query: [B, heads, N, d].
        key: [B, kv_heads, M, d].
        value: [B, kv_heads, M, d].
        mask: bool, broadcast to [B, heads, N, M]; True where a query attends to a key.
        causal: whether each query attends only to keys up to its own position.

    Returns:
        [B, heads, N, d].
    """
    grouped = key.shape[1] != query.shape[1]
    if not (query.device.type == 'cpu' and torch.is_autocast_enabled('cpu')):
        return scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, enable_gqa=grouped
        )
    # The backward pass in bfloat16 takes three times as long as in float32 (torch 2.13, AVX-512).
    with torch.autocast('cpu', enabled=False):
        return scaled_dot_product_attention(
            query.float(), key.float(), value.float(), mask, is_causal=causal, enable_gqa=grouped
        )


def _for_transformers(module, query, key, value, attention_mask=None, **_):
    return attention(query, key, value, attention_mask).transpose(1, 2), None


AttentionInterface.register(NAME, _for_transformers)
