"""Keys and values of decoder layers, kept for tokens that come later."""

from dataclasses import dataclass, field

import torch


@dataclass
class KeyValueCache:
    """Keys and values of every layer; layers from the prune layer on hold fewer tokens."""

    keys: list[torch.Tensor] = field(default_factory=list)
    """One [B, kv_heads, tokens, d] a layer, rotated."""
    values: list[torch.Tensor] = field(default_factory=list)
    """One [B, kv_heads, tokens, d] a layer."""
    position: int = 0
    """Position id of the next token: pruned tokens count, because the others keep theirs."""

    def append(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add tokens [B, kv_heads, N, d] to a layer; returns all of its keys and values."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], 2)
            self.values[layer] = torch.cat([self.values[layer], value], 2)
        return self.keys[layer], self.values[layer]
