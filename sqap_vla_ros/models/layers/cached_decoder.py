"""The prunable decoder with a key-value cache, for models that generate tokens."""

from typing import Any

import torch

from sqap_vla_ros.models.layers.attention import attention
from sqap_vla_ros.models.layers.decoder import PrunableDecoder
from sqap_vla_ros.models.layers.key_value_cache import KeyValueCache
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint


class CachedDecoder(PrunableDecoder):
    """Prefill with pruning, then one token at a time. Batch 1."""

    def prefill(
        self, embeddings: torch.Tensor, visual: slice, pruning: PruningPoint | None = None
    ) -> tuple[torch.Tensor, KeyValueCache, torch.Tensor | None]:
        """
        Run the prompt.

        Args:
            embeddings: [1, N, width].
            visual: span of the visual tokens in the sequence.
            pruning: where visual tokens leave; None: all stay.

        Returns:
            The final hidden state of the last token [1, width], the cache, and the kept visual
            tokens [budget] or None.
        """
        cache = KeyValueCache(position=embeddings.shape[1])
        hidden, kept = self(embeddings, visual, pruning, cache)
        return hidden, cache, kept

    def step(self, embedding: torch.Tensor, cache: KeyValueCache) -> torch.Tensor:
        """
        Run one more token.

        Args:
            embedding: [1, 1, width].
            cache: of the tokens before it; grows by this one.

        Returns:
            Its final hidden state [1, width].
        """
        hidden = embedding
        cos, sin = self._rotary_tables(embedding, cache.position)
        layers: Any = self.llama.layers
        for index, layer in enumerate(layers):
            normed = layer.input_layernorm(hidden)
            query, key, value = self._project(layer.self_attn, normed, cos, sin)
            keys, values = cache.append(index, key, value)
            attended = attention(query, keys, values)
            hidden = hidden + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        cache.position += 1
        return self.llama.norm(hidden[:, -1])
