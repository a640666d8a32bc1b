"""Attention as all models here compute it."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer

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


def project(
    block: Any,
    hidden: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    quantizer: QueryKeyQuantizer | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Make query, key and value of a Llama or Gemma attention block, query and key rotated.

    Args:
        block: with `q_proj`, `k_proj`, `v_proj` and `head_dim`.
        hidden: normed hidden states [B, N, width].
        cos: cosine of the rotary embedding, [1, N, d].
        sin: sine of the rotary embedding, [1, N, d].
        quantizer: quantizes the rotated query and key; None: it does not.

    Returns:
        Query [B, heads, N, d], key and value [B, kv_heads, N, d].
    """

    def split(x: torch.Tensor) -> torch.Tensor:  # [B, N, heads * d] -> [B, heads, N, d]
        return x.view(*x.shape[:2], -1, block.head_dim).transpose(1, 2)

    query, key = apply_rotary_pos_emb(
        split(block.q_proj(hidden)), split(block.k_proj(hidden)), cos, sin
    )
    if quantizer is not None:
        query, key = quantizer(query, key)
    return query, key, split(block.v_proj(hidden))


def _for_transformers(module, query, key, value, attention_mask=None, **_):
    return attention(query, key, value, attention_mask).transpose(1, 2), None


AttentionInterface.register(NAME, _for_transformers)
