"""A Llama decoder that can leave out visual tokens on the way (SQAP-VLA, arXiv 2509.09090)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, LlamaRotaryEmbedding

from sqap_vla_ros.compression.pruning.relevance import attention_row
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.kernels.hadamard import rotate, unrotate
from sqap_vla_ros.models.layers.attention import attention

Selector = Callable[[torch.Tensor | None, torch.Tensor], torch.Tensor]
"""
(attention [visual] of the task query or None, features [visual, width]) -> kept [budget].

Features are the hidden states of the visual tokens as they enter the layer that scores them.
"""


@dataclass(frozen=True)
class PruningPoint:
    """Where visual tokens leave the sequence, and who chooses them."""

    layer: int
    """Before this layer; scored by the layer before it, or by layer 0 itself when 0."""
    select: Selector | None
    """None: this time all stay."""
    needs_attention: bool = True
    """False: the selector gets None for the attention, which is not computed then."""
    observe: Callable[[torch.Tensor], None] | None = None
    """Called in each layer from `layer` on with the attention to the tokens that are left."""


def pruning_point(selector: TokenSelector) -> PruningPoint:
    """Ask a selector what it wants of this inference; for after its `begin`."""
    return PruningPoint(
        selector.recipe.layer,
        selector.select if selector.selects else None,
        selector.needs_attention,
        selector.observe if selector.observes else None,
    )


class PrunableDecoder(nn.Module):
    """
    Transformers' Llama layers, run by a loop of our own.

    A token that leaves takes its position with it: the others keep their position ids, so the
    rotary embedding of what stays does not change.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.llama = LlamaModel(config)
        # Replaced by the tables below; without weights, but with buffers that no checkpoint fills.
        del self.llama.rotary_emb
        self.config = config
        self.query_key_quantizer = None
        # int8 [width] where the residual stream runs in a rotated basis.
        self.register_buffer('residual_signs', None)
        self._rotary = None

    def forward(
        self,
        embeddings: torch.Tensor,
        visual: slice,
        pruning: PruningPoint | None = None,
        cache=None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Run the decoder, causally.

        embeddings: [B, N, width]; visual: where the visual tokens are; pruning needs B = 1;
        cache: a KeyValueCache that takes every layer's keys and values, or None.
        Returns the last token's final hidden state [B, width], and the kept visual tokens
        [budget] or None.
        """
        hidden, kept = embeddings, None
        cos, sin = self._rotary_tables(embeddings)
        prune = pruning is not None and pruning.select is not None
        if prune and pruning.layer == 0 and not pruning.needs_attention:
            kept = pruning.select(None, hidden[0, visual])
            stay = self._sequence_indices(kept, visual, hidden.shape[1])
            hidden, cos, sin = hidden[:, stay], cos[:, stay], sin[:, stay]
        for index, layer in enumerate(self.llama.layers):
            normed = layer.input_layernorm(hidden)
            query, key, value = self._project(layer.self_attn, normed, cos, sin)
            if prune and kept is None and index == max(pruning.layer - 1, 0):
                row = (
                    attention_row(query[0, :, -1], key[0], visual)
                    if pruning.needs_attention
                    else None
                )
                kept = pruning.select(row, hidden[0, visual])
                stay = self._sequence_indices(kept, visual, hidden.shape[1])
                if pruning.layer == 0:
                    hidden = hidden[:, stay]
                    query, key, value = (x[:, :, stay] for x in (query, key, value))
                    cos, sin = cos[:, stay], sin[:, stay]
            if cache is not None:
                cache.append(index, key, value)
            if pruning is not None and pruning.observe is not None and index >= pruning.layer:
                count = visual.stop - visual.start if kept is None else len(kept)
                left = slice(visual.start, visual.start + count)
                pruning.observe(attention_row(query[0, :, -1], key[0], left))
            attended = attention(query, key, value, causal=True)
            hidden = hidden + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
            if prune and 0 < pruning.layer == index + 1:
                # The feed-forward network acts on each token alone: those that leave now need it
                # no more.
                hidden, cos, sin = hidden[:, stay], cos[:, stay], sin[:, stay]
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        last = hidden[:, -1]
        if self.residual_signs is not None:
            last = unrotate(last, self.residual_signs)
        return self.llama.norm(last), kept

    @torch.no_grad()
    def rotate_residual(self, signs: torch.Tensor, writers: list[nn.Linear]) -> None:
        """
        Rotate the residual stream (QuaRot, arXiv 2404.00456); the outputs stay the same.

        signs: int8 [width]; writers: layers outside the decoder whose output it reads. RMSNorm
        commutes with a rotation once its scale is folded into the layers that follow it. Only
        the last token's final state is rotated back at run time.
        """

        def read(
            layer, norm
        ) -> None:  # [N, K]: inputs arrive without the norm's scale, and rotated
            layer.weight.copy_(rotate(layer.weight * norm.weight, signs))

        def write(layer) -> None:  # [N, K]: outputs leave rotated
            layer.weight.copy_(rotate(layer.weight.T, signs).T)
            if layer.bias is not None:
                layer.bias.copy_(rotate(layer.bias, signs))

        embedding = self.llama.embed_tokens.weight
        signs = signs.to(embedding.device)
        embedding.copy_(rotate(embedding, signs))
        for layer in writers:
            write(layer)
        for block in self.llama.layers:
            attention_block, feed_forward = block.self_attn, block.mlp
            for layer in (attention_block.q_proj, attention_block.k_proj, attention_block.v_proj):
                read(layer, block.input_layernorm)
            for layer in (feed_forward.gate_proj, feed_forward.up_proj):
                read(layer, block.post_attention_layernorm)
            for norm in (block.input_layernorm, block.post_attention_layernorm):
                norm.weight.fill_(1)
            write(attention_block.o_proj)
            write(feed_forward.down_proj)
        self.residual_signs = signs

    def _project(self, block, hidden, cos, sin):
        def split(x):  # [B, N, heads * d] -> [B, heads, N, d]
            return x.view(*x.shape[:2], -1, block.head_dim).transpose(1, 2)

        query, key = apply_rotary_pos_emb(
            split(block.q_proj(hidden)), split(block.k_proj(hidden)), cos, sin
        )
        if self.query_key_quantizer is not None:
            query, key = self.query_key_quantizer(query, key)
        return query, key, split(block.v_proj(hidden))

    def _rotary_tables(self, embeddings, first=0):
        """Cosine and sine [1, N, d] of N positions from `first` on; they are not weights."""
        if self._rotary is None or self._rotary.inv_freq.device != embeddings.device:
            # Not as a submodule: a model that is built without storage, to load compressed
            # weights, would have none to fill it from.
            rotary = LlamaRotaryEmbedding(self.config).to(embeddings.device)
            object.__setattr__(self, '_rotary', rotary)
        positions = torch.arange(first, first + embeddings.shape[1], device=embeddings.device)[
            None
        ]
        return self._rotary(embeddings, positions)

    @staticmethod
    def _sequence_indices(kept, visual, length):
        device = kept.device
        return torch.cat(
            [
                torch.arange(visual.start, device=device),
                kept + visual.start,
                torch.arange(visual.stop, length, device=device),
            ]
        )
