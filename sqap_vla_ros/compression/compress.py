"""The one verb: a model and a recipe to a compressed model."""

from collections.abc import Callable, Iterable

from torch import nn

from sqap_vla_ros.compression.dispatch import choose_backend
from sqap_vla_ros.compression.quantization.input_statistics import collecting
from sqap_vla_ros.compression.quantization.quant_linear import LinearFormat, QuantLinear
from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import FULL_PRECISION_BITS, needs_calibration, Recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import random_signs

# Hessians of as many layers as fit in here are collected in one pass over the samples. Layers of
# a later pass see their inputs as the layers quantized before leave them.
_HESSIAN_BYTES = 256 * 2**20


def compress_model(
    model: nn.Module,
    recipe: Recipe,
    calibration: Callable[[nn.Module], None] | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> nn.Module:
    """
    Compress a model in place, layer by layer; returns it.

    The model tells what compression must know of it, see `models.vla_model.VlaModel`. Each float
    weight is let go as soon as its layer is quantized. calibration: runs the model on samples,
    for recipes that need it; progress: wraps the layers, as `tqdm` does. Raises UserError that
    names the layer that does not suit the recipe, or says that the recipe needs calibration.
    """
    if needs_calibration(recipe) and calibration is None:
        raise UserError(
            f'recipe {recipe.name}: weight_method gptq and static activation_scales '
            'need calibration samples'
        )
    if recipe.denoising_steps is not None:  # calibration sees these steps
        model.set_denoising_steps(recipe.denoising_steps)
    quantization, names = recipe.quantization, layer_names(model, recipe)
    if quantization is not None and quantization.rotate_residual:
        model.rotate_residual(quantization.rotation_seed)
    specs = _specs(model, recipe, names)
    remaining = iter(progress(names))
    for group in _groups(specs, needs_calibration(recipe)):
        statistics = {}
        if needs_calibration(recipe):
            statistics = _calibrate(
                model, recipe, {name: specs[name] for name in group}, calibration
            )
        for name in group:
            next(remaining)
            layer = QuantLinear.from_linear(
                model.get_submodule(name), quantization, specs[name], statistics.get(name)
            )
            model.set_submodule(name, layer)
    for _ in remaining:  # lets a progress bar finish
        pass
    configure(model, recipe)
    return model


def configure(model: nn.Module, recipe: Recipe) -> None:
    """Set what of a recipe is neither a weight nor decides the weights' shapes."""
    quantization = recipe.quantization
    model.set_query_key_quantizer(
        None
        if quantization is None or 'decoder' not in quantization.targets
        else QueryKeyQuantizer.of(quantization, model.head_width)
    )
    model.set_pruning(recipe.pruning)
    for name in _in_denoising(model, recipe):
        model.get_submodule(name).denoising = model.denoising_step()


def layer_names(model: nn.Module, recipe: Recipe) -> list[str]:
    """Names of the linear layers that a recipe quantizes, in the model's order."""
    quantization = recipe.quantization
    if (
        quantization is None
        or FULL_PRECISION_BITS == quantization.weight_bits == quantization.activation_bits
    ):
        return []
    targets = model.quantization_targets()
    return [name for target in quantization.targets for name in targets[target]]


def make_room(model: nn.Module, recipe: Recipe, layers: list[str]) -> None:
    """Put empty QuantLinear layers into a model without storage (device 'meta')."""
    if recipe.denoising_steps is not None:  # layers may have a scale for each
        model.set_denoising_steps(recipe.denoising_steps)
    if recipe.quantization is not None and recipe.quantization.rotate_residual:
        model.expect_rotated_residual()
    for name, spec in _specs(model, recipe, layers).items():
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


def _specs(model, recipe, names):
    quantization = recipe.quantization
    arrives_rotated = (
        set(model.residual_readers())
        if (quantization is not None and quantization.rotate_residual)
        else set()
    )
    looped = set(_in_denoising(model, recipe))
    vision = set(model.quantization_targets(QuantLinear).get('vision', ()))
    specs = {}
    for name in names:
        try:
            specs[name] = LinearFormat.of(
                model.get_submodule(name),
                quantization.of_vision() if name in vision else quantization,
                name not in arrives_rotated,
                model.denoising_step().steps if name in looped else 1,
            )
        except ValueError as error:
            raise UserError(f'recipe {recipe.name}: layer {name}: {error}') from None
    return specs


def _in_denoising(model, recipe):
    """Names of the layers that take an activation scale of each denoising step."""
    quantization = recipe.quantization
    if (
        quantization is None
        or quantization.activation_scales != 'static'
        or 'action_head' not in quantization.targets
        or model.denoising_step() is None
    ):
        return []
    return model.quantization_targets(QuantLinear)['action_head']


def _groups(specs, calibrated):
    """Layer names in runs whose Hessians fit in memory together."""
    group, used = [], 0
    for name, spec in specs.items():
        size = 4 * spec.inputs**2 if calibrated else 0
        if group and used + size > _HESSIAN_BYTES:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group


def _calibrate(model, recipe, specs, calibration):
    layers = {name: model.get_submodule(name) for name in specs}
    signs = {
        name: random_signs(spec.inputs, recipe.quantization.rotation_seed).to(
            layers[name].weight.device
        )
        for name, spec in specs.items()
        if spec.rotated
    }
    steps = {
        name: model.denoising_step() for name, spec in specs.items() if spec.static_scales > 1
    }
    with collecting(layers, signs, steps, recipe.quantization.weight_method == 'gptq') as found:
        calibration(model)
    for name, statistics in found.items():
        if not statistics.largest.any():
            raise UserError(
                f'recipe {recipe.name}: calibration never ran layer {name}, or with zeros only'
            )
    return found
