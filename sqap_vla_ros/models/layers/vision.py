"""Vision encoders, and the projector of their features to visual tokens of the decoder's width."""

from functools import cache
import itertools

import torch
from torch import nn
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from sqap_vla_ros.models.layers.attention import NAME as ATTENTION
from sqap_vla_ros.models.layers.vision_config import VisionConfig


class VisionEncoder(nn.Module):
    """One transformers vision tower, truncated and masked according to its configuration."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = _TOWERS[config.kind](config.model)
        if config.drop_last_layers:
            del self._layers[-config.drop_last_layers :]
        self.grid = config.model['image_size'] // config.model['patch_size']
        self.window_mask: torch.Tensor | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Encode images.

        Args:
            image: float [B, 3, S, S], RGB in [0, 1].

        Returns:
            [B, patches, width].
        """
        config = self.config
        mean, std = (
            _channels(tuple(values), image.dtype, image.device)
            for values in (config.image_mean, config.image_std)
        )
        hidden = self._embed((image - mean) / std)
        mask = self._mask(hidden)
        for layer in self._layers:
            hidden = layer(hidden, mask)
        if self.config.final_norm:
            hidden = self._norm(hidden)
        return hidden[:, hidden.shape[1] - self.grid**2 :]

    @property
    def _layers(self):
        encoder = self.tower.encoder
        return encoder.layer if self.config.kind == 'dinov2' else encoder.layers

    @property
    def _norm(self):
        return self.tower.layernorm if self.config.kind == 'dinov2' else self.tower.post_layernorm

    def _embed(self, pixels):
        embeddings = self.tower.embeddings
        if self.config.kind == 'dinov2':
            return embeddings(pixels.to(embeddings.cls_token.dtype))
        # Not SigLIP's own forward: it looks positions up through a buffer that a model without
        # storage would not have.
        pixels = pixels.to(embeddings.patch_embedding.weight.dtype)
        patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return patches + embeddings.position_embedding.weight

    def _mask(self, hidden):
        window = self.config.attention_window
        if window is None:
            return None
        # Kept outside the buffers: it follows from the configuration, and a model that was built
        # without storage (to load compressed weights) has none to fill it from.
        if self.window_mask is None or self.window_mask.device != hidden.device:
            row, column = torch.meshgrid(
                torch.arange(self.grid), torch.arange(self.grid), indexing='ij'
            )
            near = [
                (axis.flatten()[:, None] - axis.flatten()[None]).abs() <= window
                for axis in (row, column)
            ]
            self.window_mask = (near[0] & near[1])[None, None].to(hidden.device)
        return self.window_mask


@cache
@torch.inference_mode(False)
def _channels(values, dtype, device):
    """Return one number per channel, [3, 1, 1]."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


def _siglip(model):
    return SiglipVisionModel(
        SiglipVisionConfig(**{**model, 'vision_use_head': False, 'attn_implementation': ATTENTION})
    )


def _dinov2(model):
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**{**model, 'attn_implementation': ATTENTION})
    )


_TOWERS = {'siglip': _siglip, 'dinov2': _dinov2}


def make_projector(kind: str, vision_width: int, width: int) -> nn.Module:
    """Build a projector as Prismatic VLMs name them, with their layer sizes."""
    if kind == 'gelu-mlp':
        sizes = [vision_width, width, width]
    elif kind == 'fused-gelu-mlp':
        sizes = [vision_width, 4 * vision_width, width, width]
    else:
        raise ValueError(f"projector is {kind!r}, expected 'gelu-mlp' or 'fused-gelu-mlp'")
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers += ([nn.GELU()] if i else []) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)
