"""The prunable decoder with a key-value cache, for models that generate tokens."""

from dataclasses import dataclass, field

import torch

from sqap_vla_ros.models.layers.attention import attention
from sqap_vla_ros.models.layers.decoder import PrunableDecoder, PruningPoint


@dataclass
class KeyValueCache:
    """Keys and values of every layer; layers from the prune layer on hold fewer tokens."""

    keys: list[torch.Tensor] = field(default_factory=list)
    """One [B, kv_heads, tokens, d] a layer, rotated."""
    values: list[torch.Tensor] = field(default_factory=list)
    position: int = 0
    """Position id of the next token: pruned tokens count, because the others keep theirs."""

    def append(self, layer: int, key: torch.Tensor, value: torch.Tensor):
        """Add tokens to one layer and return all of its keys and values."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], 2)
            self.values[layer] = torch.cat([self.values[layer], value], 2)
        return self.keys[layer], self.values[layer]


class CachedDecoder(PrunableDecoder):
    """Prefill with pruning, then one token at a time. Batch 1."""

    def prefill(
        self, embeddings: torch.Tensor, visual: slice, pruning: PruningPoint | None = None
    ):
        """
        Run the prompt.

        embeddings: [1, N, width]. Returns the last token's final hidden state [1, width], the
        cache, and the kept visual tokens [budget] or None.
        """
        cache = KeyValueCache(position=embeddings.shape[1])
        hidden, kept = self(embeddings, visual, pruning, cache)
        return hidden, cache, kept

    def step(self, embedding: torch.Tensor, cache: KeyValueCache) -> torch.Tensor:
        """Run one more token, [1, 1, width], and return its final hidden state [1, width]."""
        hidden = embedding
        cos, sin = self._rotary_tables(embedding, cache.position)
        for index, layer in enumerate(self.llama.layers):
            normed = layer.input_layernorm(hidden)
            query, key, value = self._project(layer.self_attn, normed, cos, sin)
            keys, values = cache.append(index, key, value)
            attended = attention(query, keys, values)
            hidden = hidden + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        cache.position += 1
        return self.llama.norm(hidden[:, -1])
