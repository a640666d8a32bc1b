"""The one verb: a model and a recipe to a compressed model."""
from typing import Callable, Iterable

from torch import nn

from sqap_vla_ros.compression.backends import choose_backend
from sqap_vla_ros.compression.quant_linear import LinearFormat, QuantLinear
from sqap_vla_ros.compression.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS, Recipe
from sqap_vla_ros.errors import UserError


def compress(model: nn.Module, recipe: Recipe,
             progress: Callable[[Iterable], Iterable] = iter) -> nn.Module:
    """
    Compress a model in place, layer by layer; returns it.

    The model has `quantization_targets`, `head_width`, `set_query_key_quantizer` and
    `set_pruning` (see `models.cogact.CogActModel`). Each float weight is let go as soon as its
    layer is quantized. progress: wraps the layers, as `tqdm` does. Raises UserError that names
    the layer that does not suit the recipe.
    """
    for name in progress(layer_names(model, recipe)):
        linear = model.get_submodule(name)
        try:
            model.set_submodule(name, QuantLinear.from_linear(linear, recipe.quantization))
        except ValueError as error:
            raise UserError(f'recipe {recipe.name}: layer {name}: {error}') from None
    configure(model, recipe)
    return model


def configure(model: nn.Module, recipe: Recipe):
    """Set everything of a recipe that is not a weight."""
    quantization = recipe.quantization
    model.set_query_key_quantizer(
        None if quantization is None or 'decoder' not in quantization.targets
        else QueryKeyQuantizer.of(quantization, model.head_width))
    model.set_pruning(recipe.pruning)


def layer_names(model: nn.Module, recipe: Recipe) -> list[str]:
    """Names of the linear layers that a recipe quantizes, in the model's order."""
    quantization = recipe.quantization
    if quantization is None or FULL_PRECISION_BITS == quantization.weight_bits == \
            quantization.activation_bits:
        return []
    targets = model.quantization_targets()
    return [name for target in quantization.targets for name in targets[target]]


def make_room(model: nn.Module, recipe: Recipe, layers: list[str]):
    """Put empty QuantLinear layers into a model without storage (device 'meta')."""
    for name in layers:
        linear = model.get_submodule(name)
        spec = LinearFormat.of(linear, recipe.quantization)
        model.set_submodule(name, QuantLinear(spec, 'meta'))


def prepare(model: nn.Module, backend: str = 'auto') -> str:
    """
    Hand every QuantLinear to a backend, where the model is now; returns the names of those in use.

    After this the model runs, but can no longer be saved. Raises UserError for a backend that is
    unknown or does not work here.
    """
    used = []
    for module in model.modules():
        if isinstance(module, QuantLinear):
            chosen = choose_backend(backend, module)
            module.prepare(chosen)
            if chosen not in used:
                used.append(chosen)
    for chosen in used:
        chosen.fuse(model)
    return '+'.join(chosen.label for chosen in used) or 'torch'
