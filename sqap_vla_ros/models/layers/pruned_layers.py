"""
Decoder layers that visual tokens leave on the way (SQAP-VLA, arXiv 2509.09090).

The one loop over transformers' Llama and Gemma layers. It defines where tokens are scored,
selected, dropped and observed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from sqap_vla_ros.compression.pruning.relevance import attention_row
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.models.layers.attention import attention
from sqap_vla_ros.models.layers.key_value_cache import KeyValueCache

Selector = Callable[[torch.Tensor | None, torch.Tensor], torch.Tensor]
"""
(attention [visual] of the task query or None, features [visual, width]) -> kept [budget].

Features are the hidden states of the visual tokens as they enter the layer that scores them.
"""
Rotary = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine [1, N, d] of the rotary embedding at the positions of the tokens."""
Projection = Callable[
    [Any, torch.Tensor, torch.Tensor, torch.Tensor],
    tuple[torch.Tensor, torch.Tensor, torch.Tensor],
]
"""(attention block, normed hidden [B, N, width], cosine, sine) -> query, key, value."""


@dataclass(frozen=True)
class PruningPoint:
    """Where visual tokens leave the sequence, and what selects them."""

    layer: int
    """They leave before this layer. The layer before it scores them; for 0, layer 0 itself."""
    select: Selector | None
    """None: all tokens stay in this inference."""
    needs_attention: bool = True
    """False: the selector gets None for the attention, which is then not computed."""
    observe: Callable[[torch.Tensor], None] | None = None
    """Called in each layer from `layer` on with the attention to the remaining visual tokens."""


def pruning_point(selector: TokenSelector) -> PruningPoint:
    """Ask a selector what it wants of this inference; call after its `begin`."""
    return PruningPoint(
        selector.recipe.layer,
        selector.select if selector.selects else None,
        selector.needs_attention,
        selector.observe if selector.observes else None,
    )


def run_pruned_layers(
    layers: Iterable[Any],
    project: Projection,
    hidden: torch.Tensor,
    rotary: Rotary,
    visual: slice,
    pruning: PruningPoint | None = None,
    *,
    causal: bool,
    cache: KeyValueCache | None = None,
    cache_only_last: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Run decoder layers; visual tokens leave at the pruning point.

    The other tokens keep their positions, so their rotary embedding does not change. The last
    token is the task query, whose attention scores the visual tokens.

    Args:
        layers: with `input_layernorm`, `self_attn`, `post_attention_layernorm` and `mlp`.
        project: makes query, key and value, rotated.
        hidden: [B, N, width]; pruning needs B = 1.
        rotary: of the N positions.
        visual: span of the visual tokens in the sequence.
        pruning: None to keep all tokens.
        causal: whether a token attends only to tokens before it.
        cache: takes the keys and values of every layer.
        cache_only_last: stop at the last layer once its keys and values are in the cache.

    Returns:
        Hidden states after the last layer [B, left, width], not normed (with `cache_only_last`,
        those that enter it), and the kept visual tokens [budget] or None.
    """
    layers = list(layers)
    cos, sin = rotary
    kept = stay = None
    select = None if pruning is None else pruning.select
    observe = None if pruning is None else pruning.observe
    first = 0 if pruning is None else pruning.layer
    needs_attention = pruning is not None and pruning.needs_attention
    scoring = max(first - 1, 0)
    if select is not None and first == 0 and not needs_attention:
        kept = select(None, hidden[0, visual])
        stay = _remaining(kept, visual, hidden.shape[1])
        hidden, cos, sin = hidden[:, stay], cos[:, stay], sin[:, stay]
    for index, layer in enumerate(layers):
        query, key, value = project(layer.self_attn, layer.input_layernorm(hidden), cos, sin)
        if select is not None and kept is None and index == scoring:
            row = attention_row(query[0, :, -1], key[0], visual) if needs_attention else None
            kept = select(row, hidden[0, visual])
            stay = _remaining(kept, visual, hidden.shape[1])
            if first == 0:
                hidden, cos, sin = hidden[:, stay], cos[:, stay], sin[:, stay]
                query, key, value = (x[:, :, stay] for x in (query, key, value))
        if cache is not None:
            cache.append(index, key, value)
        if observe is not None and index >= first:
            count = visual.stop - visual.start if kept is None else len(kept)
            left = slice(visual.start, visual.start + count)
            observe(attention_row(query[0, :, -1], key[0], left))
        if cache_only_last and index == len(layers) - 1:
            break
        attended = attention(query, key, value, causal=causal)
        hidden = hidden + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
        if select is not None and 0 < first == index + 1:
            # The feed-forward network acts on each token alone, so tokens can leave before it.
            hidden, cos, sin = hidden[:, stay], cos[:, stay], sin[:, stay]
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return hidden, kept


def _remaining(kept: torch.Tensor, visual: slice, length: int) -> torch.Tensor:
    """Index the sequence: what is before the visual tokens, the kept ones, the rest."""
    device = kept.device
    return torch.cat(
        [
            torch.arange(visual.start, device=device),
            kept + visual.start,
            torch.arange(visual.stop, length, device=device),
        ]
    )
