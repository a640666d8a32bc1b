"""Compression of a model in memory: every layer that a recipe names, and the recipe's settings."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from torch import nn

from sqap_vla_ros.compression.backends.base import Backend
from sqap_vla_ros.compression.dispatch import choose_backend
from sqap_vla_ros.compression.quantization.denoising_step import DenoisingStep
from sqap_vla_ros.compression.quantization.input_statistics import collecting, InputStatistics
from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.quantization.query_key import QueryKeyQuantizer
from sqap_vla_ros.compression.recipe import (
    FULL_PRECISION_BITS,
    needs_calibration,
    PruningRecipe,
    Recipe,
)
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import random_signs

# Hessians of as many layers as fit into this memory are collected in one pass over the samples.
# Layers of a later pass see the outputs of the layers that are already quantized.
_HESSIAN_BYTES = 256 * 2**20


class CompressibleModel(Protocol):
    """
    What compression asks of a model; `models.vla_model.VlaModel` describes and implements it.

    The second half is what every nn.Module has.
    """

    @property
    def head_width(self) -> int:
        """Channels of one attention head of the decoder."""

    def set_query_key_quantizer(self, quantizer: QueryKeyQuantizer | None) -> None:
        """Quantize rotated queries and keys."""

    def set_pruning(self, recipe: PruningRecipe | None) -> None:
        """Prune visual tokens."""

    def set_denoising_steps(self, steps: int) -> None:
        """Set the number of denoising steps of the action head."""

    def residual_readers(self) -> list[str]:
        """Names of the linear layers that read the decoder's normed residual stream."""

    def rotate_residual(self, seed: int) -> None:
        """Rotate the residual stream of a float decoder offline."""

    def expect_rotated_residual(self) -> None:
        """Add the tensors that `rotate_residual` adds, before a checkpoint fills them."""

    def denoising_step(self) -> DenoisingStep | None:
        """Denoising step of the action head."""

    def quantization_targets(self, also: type = ...) -> dict[str, list[str]]:
        """Names of the linear layers that compression may replace, by target."""

    def get_submodule(self, target: str) -> nn.Module:
        """See nn.Module."""

    def set_submodule(self, target: str, module: nn.Module) -> None:
        """See nn.Module."""

    def state_dict(self) -> dict[str, Any]:
        """See nn.Module."""


AnyModel = TypeVar('AnyModel', bound=CompressibleModel)


def compress_model(
    model: AnyModel,
    recipe: Recipe,
    calibration: Callable[[AnyModel], None] | None = None,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> AnyModel:
    """
    Compress a model in place, layer by layer.

    Each float weight is freed as soon as its layer is quantized.

    Args:
        model: a float model.
        recipe: what to do.
        calibration: runs the model on samples; for recipes that need calibration.
        progress: wraps the names of the layers, as `tqdm` does.

    Returns:
        The model.

    Raises:
        UserError: a layer does not suit the recipe, or the recipe needs calibration.
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
        assert quantization is not None, 'layers are quantized only by a quantization recipe'
        statistics: dict[str, InputStatistics] = {}
        if calibration is not None and needs_calibration(recipe):
            statistics = _calibrate(
                model, recipe, {name: specs[name] for name in group}, calibration
            )
        for name in group:
            next(remaining)
            layer = QuantLinear.from_linear(
                _linear(model, name), quantization, specs[name], statistics.get(name)
            )
            model.set_submodule(name, layer)
    for _ in remaining:  # lets a progress bar finish
        pass
    configure(model, recipe)
    return model


def configure(model: CompressibleModel, recipe: Recipe) -> None:
    """Apply the settings of a recipe that neither are weights nor decide their shapes."""
    quantization = recipe.quantization
    model.set_query_key_quantizer(
        None
        if quantization is None or 'decoder' not in quantization.targets
        else QueryKeyQuantizer.of(quantization, model.head_width)
    )
    model.set_pruning(recipe.pruning)
    for name in _in_denoising(model, recipe):
        layer = model.get_submodule(name)
        assert isinstance(layer, QuantLinear), f'{name} is not quantized'
        layer.denoising = model.denoising_step()


def layer_names(model: CompressibleModel, recipe: Recipe) -> list[str]:
    """Names of the linear layers that a recipe quantizes, in the model's order."""
    quantization = recipe.quantization
    if (
        quantization is None
        or FULL_PRECISION_BITS == quantization.weight_bits == quantization.activation_bits
    ):
        return []
    targets = model.quantization_targets()
    return [name for target in quantization.targets for name in targets[target]]


def make_room(model: CompressibleModel, recipe: Recipe, layers: list[str]) -> None:
    """
    Put empty QuantLinear layers into a model without storage, for a checkpoint to fill.

    Args:
        model: built on the device 'meta'.
        recipe: of the checkpoint.
        layers: names of its quantized layers.

    Raises:
        UserError: a layer does not suit the recipe.
    """
    if recipe.denoising_steps is not None:  # layers may have one scale per step
        model.set_denoising_steps(recipe.denoising_steps)
    if recipe.quantization is not None and recipe.quantization.rotate_residual:
        model.expect_rotated_residual()
    for name, spec in _specs(model, recipe, layers).items():
        model.set_submodule(name, QuantLinear(spec, 'meta'))


def prepare(model: nn.Module, backend: str = 'auto') -> str:
    """
    Hand every QuantLinear to a backend, on the device where the model is.

    After this the model runs, but can no longer be saved.

    Args:
        model: compressed, with all tensors on one device.
        backend: a backend's name, or 'auto' for the fastest that works.

    Returns:
        Labels of the backends in use, joined by '+'; 'torch' if there is no quantized layer.

    Raises:
        UserError: the backend is unknown or does not work here.
    """
    used: list[Backend] = []
    for module in model.modules():
        if isinstance(module, QuantLinear):
            chosen = choose_backend(backend, module)
            module.prepare(chosen)
            if chosen not in used:
                used.append(chosen)
    for chosen in used:
        chosen.fuse(model)
    return '+'.join(chosen.label for chosen in used) or 'torch'


def _linear(model: CompressibleModel, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), f'{name} is not a linear layer'
    return layer


def _specs(model: CompressibleModel, recipe: Recipe, names: list[str]) -> dict[str, LinearFormat]:
    """Give the formats of the layers that a recipe quantizes, by name."""
    quantization = recipe.quantization
    if quantization is None:
        return {}
    arrives_rotated = set(model.residual_readers()) if quantization.rotate_residual else set()
    step = model.denoising_step()
    looped = set(_in_denoising(model, recipe))
    vision = set(model.quantization_targets(QuantLinear).get('vision', ()))
    specs = {}
    for name in names:
        try:
            specs[name] = LinearFormat.of(
                _linear(model, name),
                quantization.of_vision() if name in vision else quantization,
                name not in arrives_rotated,
                step.steps if step is not None and name in looped else 1,
            )
        except ValueError as error:
            raise UserError(f'recipe {recipe.name}: layer {name}: {error}') from None
    return specs


def _in_denoising(model: CompressibleModel, recipe: Recipe) -> list[str]:
    """Names of the layers that have an activation scale for each denoising step."""
    quantization = recipe.quantization
    if (
        quantization is None
        or quantization.activation_scales != 'static'
        or 'action_head' not in quantization.targets
        or model.denoising_step() is None
    ):
        return []
    return model.quantization_targets(QuantLinear)['action_head']


def _groups(specs: dict[str, LinearFormat], calibrated: bool) -> Iterator[list[str]]:
    """Layer names in runs whose Hessians fit into memory together."""
    group: list[str] = []
    used = 0
    for name, spec in specs.items():
        size = 4 * spec.inputs**2 if calibrated else 0
        if group and used + size > _HESSIAN_BYTES:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    if group:
        yield group


def _calibrate(
    model: AnyModel,
    recipe: Recipe,
    specs: dict[str, LinearFormat],
    calibration: Callable[[AnyModel], None],
) -> dict[str, InputStatistics]:
    """Statistics of some layers' inputs, by name."""
    quantization, step = recipe.quantization, model.denoising_step()
    assert quantization is not None, 'calibration is for quantization only'
    layers = {name: _linear(model, name) for name in specs}
    signs = {
        name: random_signs(spec.inputs, quantization.rotation_seed).to(layers[name].weight.device)
        for name, spec in specs.items()
        if spec.rotated
    }
    steps = {
        name: step for name, spec in specs.items() if step is not None and spec.static_scales > 1
    }
    with collecting(layers, signs, steps, quantization.weight_method == 'gptq') as found:
        calibration(model)
    for name, statistics in found.items():
        if not statistics.largest.any():
            raise UserError(
                f'recipe {recipe.name}: calibration never ran layer {name}, or with zeros only'
            )
    return found
