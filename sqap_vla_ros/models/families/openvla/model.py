"""
OpenVLA: vision encoders, projector, and a Llama decoder that writes action tokens.

The decoder reads [BOS | visual | prompt] and continues with one token an action column (arXiv
2406.09246, section 3.2). Visual tokens that are pruned leave the cache of every layer from the
prune layer on, so each later token attends to the same ones.
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import LlamaConfig

from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.models.families.openvla.config import OpenVlaConfig
from sqap_vla_ros.models.layers.cached_decoder import CachedDecoder
from sqap_vla_ros.models.layers.key_value_cache import KeyValueCache
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.layers.vision import make_projector, VisionEncoder
from sqap_vla_ros.models.preprocessing.words import BOS
from sqap_vla_ros.models.vla_model import VlaModel


class OpenVlaModel(VlaModel):
    """The module tree, and greedy decoding of the action tokens."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {
        'decoder': ('decoder.llama.layers',),
        'vision': ('vision',),
        'action_head': (),
    }

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.config = config
        llama = LlamaConfig(**config.llama)
        self.vision = nn.ModuleList(VisionEncoder(v) for v in config.vision)
        vision_width = sum(v.model['hidden_size'] for v in config.vision)
        self.projector = make_projector(config.projector, vision_width, llama.hidden_size)
        self.decoder = CachedDecoder(llama)
        self.lm_head = nn.Linear(llama.hidden_size, llama.vocab_size, bias=False)

    @property
    def grid(self) -> int:
        """Rows, and columns, of visual tokens."""
        first: Any = self.vision[0]
        return int(first.grid)

    @property
    def visual(self) -> slice:
        """Where the visual tokens are in the decoder's sequence."""
        return slice(1, 1 + self.grid**2)

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """image: float [B, 3, S, S] in [0, 1]. Returns visual tokens [B, patches, width]."""
        return self.projector(torch.cat([encoder(image) for encoder in self.vision], -1))

    def prefill(
        self, visual: torch.Tensor, text: torch.Tensor, pruning: PruningPoint | None = None
    ) -> tuple[torch.Tensor, KeyValueCache, torch.Tensor | None]:
        """
        Run the prompt.

        Args:
            visual: [1, patches, width].
            text: ids [1, length] after BOS.
            pruning: where visual tokens leave; None: all stay.

        Returns:
            The final hidden state of the last token [1, width], the cache, and the kept visual
            tokens [budget] or None.
        """
        words = self.decoder.llama.embed_tokens
        first = words(text.new_full((1, 1), BOS))
        return self.decoder.prefill(
            torch.cat([first, visual, words(text)], 1), self.visual, pruning
        )

    def write(
        self, hidden: torch.Tensor, cache: KeyValueCache, count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Decode greedily.

        Args:
            hidden: from `prefill`, [1, width].
            cache: from `prefill`; it grows.
            count: number of tokens.

        Returns:
            Token ids [count], and logits float32 [count, vocabulary].
        """
        tokens, logits = [], []
        for _ in range(count):
            logits.append(self.lm_head(hidden)[0].float())
            tokens.append(logits[-1].argmax())
            if len(tokens) < count:
                embedding = self.decoder.llama.embed_tokens(tokens[-1][None, None])
                hidden = self.decoder.step(embedding, cache)
        return torch.stack(tokens), torch.stack(logits)

    @property
    def head_width(self) -> int:
        """Channels of one attention head of the decoder."""
        first: Any = self.decoder.llama.layers[0]
        return int(first.self_attn.head_dim)

    def set_query_key_quantizer(self, quantizer: QueryKeyQuantizer | None) -> None:
        """Quantize rotated queries and keys; None: leave them alone."""
        self.decoder.query_key_quantizer = quantizer
