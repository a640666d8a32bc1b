"""
pi0: a bidirectional vision-language prefix and a flow-matching action expert (arXiv 2410.24164).

The modules are transformers' PI0ForConditionalGeneration. `run_pruned_layers` runs the layers of
the prefix, `velocity` those of the expert.
The prefix is computed once, and its keys and values are read at every flow step, so a pruned
prefix makes the expert faster too. Padding tokens are left out: masked
tokens take no position, and no token attends to them.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.models.gemma.modeling_gemma import GemmaRotaryEmbedding

from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.layers.attention import attention, project
from sqap_vla_ros.models.layers.attention import NAME as ATTENTION
from sqap_vla_ros.models.layers.guidance import Guide
from sqap_vla_ros.models.layers.key_value_cache import KeyValueCache
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint, Rotary, run_pruned_layers
from sqap_vla_ros.models.preprocessing.normalisation import LEROBOT
from sqap_vla_ros.models.vla_model import VlaModel


class Pi0Model(VlaModel):
    """The module tree, the prefix pass and the flow."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {
        'decoder': ('pi0.model.vlm.language_model.layers',),
        'vision': ('pi0.model.vlm.vision_tower',),
        'action_head': ('pi0.model.dit.layers',),
    }

    def __init__(self, config: Pi0Config) -> None:
        super().__init__()
        self.config = config
        self.pi0: Any = PI0ForConditionalGeneration(PI0Config(**config.model))
        vlm: Any = self.pi0.config.vlm_config
        expert, layers = len(self.pi0.model.dit.layers), self.layers
        if expert != layers:  # each layer of the expert reads the keys of one of the prefix
            raise ValueError(f'the expert has {expert} layers, the language model {layers}')
        vlm.vision_config._attn_implementation = ATTENTION
        # Parts without a role at inference, and tables that no checkpoint fills.
        del self.pi0.model.dit.embed_tokens
        del self.pi0.model.dit.rotary_emb, self._language.rotary_emb
        del self.pi0.embed_action_time.sinusoid_embeds
        embedding = self._language.embed_tokens
        self._language.embed_tokens = nn.Embedding(
            embedding.num_embeddings, embedding.embedding_dim
        )
        # Of words; lerobot holds it in the type of the model.
        scale = torch.tensor(embedding.embedding_dim**0.5, dtype=torch.float64, device='cpu')
        if config.bfloat16_tables and config.preprocessing == LEROBOT:
            scale = scale.to(torch.bfloat16)
        self._embedding_scale = float(scale)
        self._rotary: GemmaRotaryEmbedding | None = None
        self._query_key_quantizer: QueryKeyQuantizer | None = None

    @property
    def _language(self) -> Any:
        return self.pi0.model.vlm.language_model

    @property
    def layers(self) -> int:
        """Decoder layers that visual tokens pass."""
        return len(self._language.layers)

    @property
    def grid(self) -> int:
        """Rows, and columns, of one camera's visual tokens."""
        vision = self.config.model['vlm_config']['vision_config']
        return vision['image_size'] // vision['patch_size']

    @property
    def head_width(self) -> int:
        """Channels of one attention head of the decoder and the expert."""
        return self._language.layers[0].self_attn.head_dim

    def set_query_key_quantizer(self, quantizer: QueryKeyQuantizer | None) -> None:
        """Quantize rotated queries and keys, of the expert too: it reads the prefix's keys."""
        self._query_key_quantizer = quantizer

    def set_denoising_steps(self, steps: int) -> None:
        """See `VlaModel`."""
        self.config = replace(self.config, flow_steps=steps)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """images: [cameras, 3, S, S] in [-1, 1]. Returns [1, cameras * patches, width]."""
        vlm = self.pi0.model.vlm
        embeddings = vlm.vision_tower.embeddings
        pixels = images.to(embeddings.patch_embedding.weight.dtype)
        hidden = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        hidden = hidden + embeddings.position_embedding.weight
        for layer in vlm.vision_tower.encoder.layers:
            hidden = layer(hidden, None)
        features = vlm.vision_tower.post_layernorm(hidden)
        return vlm.multi_modal_projector(features).flatten(0, 1)[None]

    def prefix(
        self, visual: torch.Tensor, text: torch.Tensor, pruning: PruningPoint | None = None
    ) -> tuple[KeyValueCache, torch.Tensor | None]:
        """
        Run the prefix [visual | text] once; every token attends to every other.

        The task query is the last text token. Of the last layer, only keys and values are read.

        Args:
            visual: [1, V, width].
            text: ids [1, length], no padding.
            pruning: where visual tokens leave; None: all stay.

        Returns:
            The cache of the prefix, and the kept visual tokens [budget] or None.
        """
        words = self._language.embed_tokens(text) * self._embedding_scale
        hidden = torch.cat([visual, words.to(visual.dtype)], 1)
        cache = KeyValueCache(position=hidden.shape[1])
        _, kept = run_pruned_layers(
            self._language.layers,
            self._project,
            hidden,
            self._rotary_tables(hidden, 0),
            slice(0, visual.shape[1]),
            pruning,
            causal=False,
            cache=cache,
            cache_only_last=True,
        )
        return cache, kept

    def sample(
        self,
        cache: KeyValueCache,
        state: torch.Tensor,
        noise: torch.Tensor,
        guide: Guide | None = None,
    ) -> torch.Tensor:
        """
        Integrate the flow from noise to actions by Euler steps, t from 1 to 0.

        Args:
            cache: from `prefix`; not changed.
            state: normalised and padded, [1, S].
            noise: standard normal, [1, horizon, A].
            guide: pulls each step's estimate of the clean chunk; None: nothing does.

        Returns:
            Normalised actions [1, horizon, A].
        """
        config = self.config
        times, step = _flow_times(config.flow_steps, noise.dtype, config.preprocessing)
        actions = noise
        for time, rounded in times:
            velocity = self.velocity(cache, state, actions, time)
            if guide is not None:  # noise - clean, and actions = t noise + (1 - t) clean
                clean = guide(actions - rounded * velocity)
                velocity = (actions - clean) / rounded
            actions = actions + step * velocity
        return actions

    def velocity(
        self, cache: KeyValueCache, state: torch.Tensor, actions: torch.Tensor, time: float
    ) -> torch.Tensor:
        """Flow at one time; shapes as in `sample`."""
        embed, expert = self.pi0.embed_action_time, self.pi0.model.dit
        embedded = embed.action_in_proj(actions)
        wave = self._time_embedding(time, embedded).expand_as(embedded)
        mixed = nn.functional.silu(embed.action_time_mlp_in(torch.cat([embedded, wave], -1)))
        hidden = torch.cat([embed.state_proj(state)[:, None], embed.action_time_mlp_out(mixed)], 1)
        cos, sin = self._rotary_tables(hidden, cache.position)
        for index, layer in enumerate(expert.layers):
            normed = layer.input_layernorm(hidden)
            query, key, value = self._project(layer.self_attn, normed, cos, sin)
            keys = torch.cat([cache.keys[index].to(key.dtype), key], 2)
            values = torch.cat([cache.values[index].to(value.dtype), value], 2)
            # The state sees the prefix and itself; the actions see everything.
            mask = torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool, device=key.device)
            mask[0, 1 - query.shape[2] :] = False
            attended = attention(query, keys, values, mask)
            hidden = hidden + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.pi0.action_out_proj(expert.norm(hidden)[:, 1:])

    def _project(
        self, block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return project(block, hidden, cos, sin, self._query_key_quantizer)

    def _rotary_tables(self, hidden: torch.Tensor, first: int) -> Rotary:
        """Cosine and sine [1, N, d] of N positions from `first` on."""
        if self._rotary is None or self._rotary.inv_freq.device != hidden.device:
            rotary = GemmaRotaryEmbedding(self.pi0.config.vlm_config.text_config)
            if self.config.bfloat16_tables:
                rotary.inv_freq = rotary.inv_freq.to(torch.bfloat16).float()
            object.__setattr__(self, '_rotary', rotary.to(hidden.device))
        positions = torch.arange(first, first + hidden.shape[1], device=hidden.device)[None]
        tables: Rotary = self._rotary(hidden, positions)  # type: ignore[misc]
        return tables

    def _time_embedding(self, time: float, like: torch.Tensor) -> torch.Tensor:
        config = self.pi0.config
        return _time_wave(
            time, like.shape[-1], config.min_period, config.max_period, like.dtype, like.device
        )


@lru_cache(maxsize=8)
def _flow_times(
    steps: int, dtype: torch.dtype, library: str = 'openpi'
) -> tuple[list[tuple[float, float]], float]:
    """
    List the flow's times, 1 to 0, each with itself as `dtype` holds it, and the step so held.

    openpi adds up the step in float32, lerobot rounds each time to float32: the time embedding has
    periods so short that this shows.
    """
    step = torch.tensor(-1 / steps)
    if library == LEROBOT:
        times = [torch.tensor(1 + i * (-1 / steps)) for i in range(steps)]
    else:
        times = [torch.tensor(1.0)]
        while len(times) < steps:
            times.append(times[-1] + step)
    return [(float(t), float(t.to(dtype))) for t in times], float(step.to(dtype))


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _time_wave(time, width, shortest, longest, dtype, device):
    """Sine and cosine [1, 1, width] of a flow time, periods spaced geometrically."""
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64)
    period = shortest * (longest / shortest) ** fraction
    angle = 1 / period * 2 * torch.pi * time
    return torch.cat([angle.sin(), angle.cos()]).to(device, dtype)[None, None]
