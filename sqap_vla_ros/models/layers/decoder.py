"""A Llama decoder that can leave out visual tokens on the way (SQAP-VLA, arXiv 2509.09090)."""

from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.kernels.hadamard import rotate, unrotate
from sqap_vla_ros.models.layers.attention import project
from sqap_vla_ros.models.layers.key_value_cache import KeyValueCache
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint, Rotary, run_pruned_layers


class PrunableDecoder(nn.Module):
    """Transformers' Llama layers, run by `run_pruned_layers`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.llama = LlamaModel(config)
        # Replaced by `_rotary_tables`: it has no weights, but buffers that no checkpoint fills.
        del self.llama.rotary_emb
        self.config = config
        self.query_key_quantizer: QueryKeyQuantizer | None = None
        # int8 [width] where the residual stream runs in a rotated basis.
        self.register_buffer('residual_signs', None)
        self._rotary: LlamaRotaryEmbedding | None = None
        self.residual_signs: torch.Tensor | None

    def forward(
        self,
        embeddings: torch.Tensor,
        visual: slice,
        pruning: PruningPoint | None = None,
        cache: KeyValueCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Run the decoder, causally.

        Args:
            embeddings: [B, N, width]; pruning needs B = 1.
            visual: span of the visual tokens in the sequence.
            pruning: where visual tokens leave; None: all stay.
            cache: takes the keys and values of every layer.

        Returns:
            The final hidden state of the last token [B, width], and the kept visual tokens
            [budget] or None.
        """
        hidden, kept = run_pruned_layers(
            self.llama.layers,
            self._project,
            embeddings,
            self._rotary_tables(embeddings),
            visual,
            pruning,
            causal=True,
            cache=cache,
        )
        last = hidden[:, -1]
        if self.residual_signs is not None:
            last = unrotate(last, self.residual_signs)
        return self.llama.norm(last), kept

    @torch.no_grad()
    def rotate_residual(self, signs: torch.Tensor, writers: list[nn.Linear]) -> None:
        """
        Rotate the residual stream (QuaRot, arXiv 2404.00456); the outputs stay the same.

        RMSNorm commutes with a rotation once its scale is folded into the layers that follow it.
        Only the final state of the last token is rotated back at run time.

        Args:
            signs: int8 [width], random signs of the rotation.
            writers: layers outside the decoder whose outputs it reads.
        """

        def read(layer: nn.Linear, norm: Any) -> None:
            # [N, K]: inputs arrive without the norm's scale, and rotated
            layer.weight.copy_(rotate(layer.weight * norm.weight, signs))

        def write(layer: nn.Linear) -> None:
            # [N, K]: outputs leave rotated
            layer.weight.copy_(rotate(layer.weight.T, signs).T)
            if layer.bias is not None:
                layer.bias.copy_(rotate(layer.bias, signs))

        embedding = self.llama.embed_tokens.weight
        signs = signs.to(embedding.device)
        embedding.copy_(rotate(embedding, signs))
        for layer in writers:
            write(layer)
        blocks: Any = self.llama.layers
        for block in blocks:
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

    def _project(
        self, block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return project(block, hidden, cos, sin, self.query_key_quantizer)

    def _rotary_tables(self, embeddings: torch.Tensor, first: int = 0) -> Rotary:
        """Cosine and sine [1, N, d] of N positions from `first` on; they are not weights."""
        if self._rotary is None or self._rotary.inv_freq.device != embeddings.device:
            # Not as a submodule: a model that is built without storage, to load compressed
            # weights, would have none to fill it from.
            rotary = LlamaRotaryEmbedding(self.config).to(embeddings.device)
            object.__setattr__(self, '_rotary', rotary)
        positions = torch.arange(first, first + embeddings.shape[1], device=embeddings.device)[
            None
        ]
        tables: Rotary = self._rotary(embeddings, positions)  # type: ignore[misc]
        return tables
