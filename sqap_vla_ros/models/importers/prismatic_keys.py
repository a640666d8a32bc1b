"""
Names in released Prismatic checkpoints (OpenVLA, CogACT) to names in this package's models.

The vision towers are stored as timm names them. Transformers' modules compute the same (equal to
the last bit at the layer that is used), so only names and the joint query-key-value matrix differ.
"""

from dataclasses import dataclass
import re

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader
from sqap_vla_ros.models.importers.sources import Source


@dataclass(frozen=True)
class Tower:
    """One vision tower of a released checkpoint: sizes, read off its tensors."""

    width: int
    depth: int
    mlp: int
    patch: int
    image: int
    registers: int


DEPTHS = {1024: 24, 1152: 27}
"""Blocks of DINOv2-L and of SigLIP so400m, by width."""


def read_tower(reader: CheckpointReader, prefix: str) -> Tower:
    """
    Read the sizes of the timm tower under `prefix` (with its dot).

    Raises:
        UserError: a tensor is missing, or the sizes are not those of such a tower.
    """
    width, _, patch, _ = reader.sizes(f'{prefix}patch_embed.proj.weight', 4)
    mlp = reader.sizes(f'{prefix}blocks.0.mlp.fc1.weight', 2)[0]
    depth = count_layers(reader, f'{prefix}blocks.')
    if depth != DEPTHS.get(width, depth) or depth < 2:
        raise UserError(
            f'{reader.where}: {prefix}blocks has {depth} blocks of width {width}, expected '
            f'{DEPTHS.get(width, "at least 2")}'
        )
    patches = reader.sizes(f'{prefix}pos_embed', 3)[1]
    grid = round(patches**0.5)
    if grid**2 != patches:
        raise UserError(
            f'{reader.where}: {prefix}pos_embed has {patches} positions, expected a square number'
        )
    registers = f'{prefix}reg_token'
    count = reader.sizes(registers, 3)[1] if registers in reader.names() else 0
    return Tower(width, depth, mlp, patch, grid * patch, count)


def count_layers(reader: CheckpointReader, prefix: str) -> int:
    """
    Count the layers whose tensors are named `prefix` and a number.

    Raises:
        UserError: a number is left out; the message names the layer.
    """
    found = {
        int(match[1])
        for name in reader.names()
        if (match := re.match(re.escape(prefix) + r'(\d{1,6})\.', name))
    }
    for index in range(len(found)):
        if index not in found:
            raise UserError(
                f'{reader.where}: no tensors of {prefix}{index}, but of {prefix}{max(found)}; the '
                'checkpoint is incomplete'
            )
    return len(found)


def dinov2_sources(tower: Tower, prefix: str, ours: str, scale: str) -> dict[str, Source]:
    """
    Name the sources of a Dinov2WithRegistersModel.

    scale: what LayerScale's parameter is called, 'gamma' (timm) or 'scale_factor' (OpenVLA).
    """
    sources = {
        'embeddings.cls_token': Source(f'{prefix}cls_token'),
        'embeddings.register_tokens': Source(f'{prefix}reg_token'),
        # Used in masked training only; released checkpoints do not have it.
        'embeddings.mask_token': Source(f'{prefix}cls_token', lambda x: torch.zeros_like(x[:, 0])),
        # This timm model adds no position to the class token, transformers' adds the first row.
        'embeddings.position_embeddings': Source(
            f'{prefix}pos_embed', lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], 1)
        ),
        **_linear('embeddings.patch_embeddings.projection', f'{prefix}patch_embed.proj'),
        **_linear('layernorm', f'{prefix}norm'),
    }
    for i in range(tower.depth - 1):
        block, layer = f'{prefix}blocks.{i}.', f'encoder.layer.{i}.'
        sources |= {
            **_attention(f'{layer}attention.', block, 'o_proj'),
            **_linear(f'{layer}norm1', f'{block}norm1'),
            **_linear(f'{layer}norm2', f'{block}norm2'),
            f'{layer}layer_scale1.lambda1': Source(f'{block}ls1.{scale}'),
            f'{layer}layer_scale2.lambda1': Source(f'{block}ls2.{scale}'),
            **_mlp(layer, block),
        }
    return {ours + name: source for name, source in sources.items()}


def siglip_sources(tower: Tower, prefix: str, ours: str) -> dict[str, Source]:
    """Name the sources of a SiglipVisionModel without its head."""
    sources = {
        'embeddings.position_embedding.weight': Source(f'{prefix}pos_embed', lambda x: x[0]),
        **_linear('embeddings.patch_embedding', f'{prefix}patch_embed.proj'),
        **_linear('post_layernorm', f'{prefix}norm'),
    }
    for i in range(tower.depth - 1):
        block, layer = f'{prefix}blocks.{i}.', f'encoder.layers.{i}.'
        sources |= {
            **_attention(f'{layer}self_attn.', block, 'out_proj'),
            **_linear(f'{layer}layer_norm1', f'{block}norm1'),
            **_linear(f'{layer}layer_norm2', f'{block}norm2'),
            **_mlp(layer, block),
        }
    return {ours + name: source for name, source in sources.items()}


def projector_sources(released: list[str]) -> dict[str, Source]:
    """Name the sources of the projector, given its linear layers' released names in order."""
    sources: dict[str, Source] = {}
    for i, name in enumerate(released):
        sources |= _linear(f'projector.{2 * i}', name)
    return sources


def llama_sources(reader: CheckpointReader, prefix: str, ours: str) -> dict[str, Source]:
    """Name the sources of a LlamaModel, whose names are the same; `prefix` ends in 'model.'."""
    return {
        ours + name.removeprefix(prefix): Source(name)
        for name in sorted(reader.names())
        if name.startswith(prefix) and not name.endswith('rotary_emb.inv_freq')
    }


def _linear(ours, released):
    return {
        f'{ours}.weight': Source(f'{released}.weight'),
        f'{ours}.bias': Source(f'{released}.bias'),
    }


def _mlp(layer, block):
    return {
        **_linear(f'{layer}mlp.fc1', f'{block}mlp.fc1'),
        **_linear(f'{layer}mlp.fc2', f'{block}mlp.fc2'),
    }


def _attention(ours, block, output):
    sources = _linear(f'{ours}{output}', f'{block}attn.proj')
    for third, name in enumerate(('q_proj', 'k_proj', 'v_proj')):
        for part in ('weight', 'bias'):
            sources[f'{ours}{name}.{part}'] = Source(f'{block}attn.qkv.{part}', _Third(third))
    return sources


@dataclass(frozen=True)
class _Third:
    """Query, key or value rows of a joint matrix or bias."""

    index: int

    def __call__(self, joint: torch.Tensor) -> torch.Tensor:
        return joint.chunk(3)[self.index]
