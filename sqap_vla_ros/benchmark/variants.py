"""Ways to run a model: precision, quantization, pruning."""

from dataclasses import dataclass

import torch

from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.errors import UserError

_SUFFIX = '_prune40'
PRUNING = PruningRecipe(relevance='temporal', smoothing=0.8)
"""As the recipes `sqap_*_prune40`: 40 % of the visual tokens, before layer 1."""

_QUANTIZED = {
    name: QuantizationRecipe(weight_bits=int(name[1]), activation_bits=int(name[3]))
    for name in ('w8a8', 'w4a8', 'w4a4')
}
_PRECISIONS = ('fp32', 'bf16', 'bf16_graph', *_QUANTIZED)
NAMES = tuple(f'{name}{suffix}' for name in _PRECISIONS for suffix in ('', _SUFFIX))


@dataclass(frozen=True)
class Variant:
    """One line of a benchmark."""

    name: str
    precision: str
    pruned: bool

    @property
    def dtype(self) -> torch.dtype:
        """Type of what is not quantized."""
        return torch.float32 if self.precision == 'fp32' else torch.bfloat16

    @property
    def quantization(self) -> QuantizationRecipe | None:
        """Recipe of the decoder's linear layers."""
        return _QUANTIZED.get(self.precision)

    @property
    def recipe(self) -> Recipe:
        """The variant as a recipe; bf16 is not one."""
        return Recipe(self.name, self.quantization, PRUNING if self.pruned else None)

    @property
    def graph(self) -> bool:
        """Whether the step must be one CUDA graph; quantized variants are where they can be."""
        return self.precision.endswith('_graph')


def parse(name: str) -> Variant:
    """Look a variant up. Raises UserError that lists the names."""
    if name not in NAMES:
        raise UserError(f'variant is {name!r}, expected one of {", ".join(NAMES)}')
    return Variant(name, name.removesuffix(_SUFFIX), name.endswith(_SUFFIX))
