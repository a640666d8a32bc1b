"""Loading policy directories, compressed or not."""

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
import torch
from torch import nn

from sqap_vla_ros.compression.checkpoint import (
    file_sha256,
    float_parameter_bytes,
    load_compressed_into,
    parameter_bytes,
    WEIGHTS_FILE,
)
from sqap_vla_ros.compression.compress import compress_model, prepare
from sqap_vla_ros.compression.recipe import needs_calibration, Recipe
from sqap_vla_ros.compression.recipe_files import load_recipe, RECIPE_FILE, recipe_to_dict
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import open_safetensors
from sqap_vla_ros.models.calibration_samples import CALIBRATION_FILE, load_samples
from sqap_vla_ros.models.config import load_config, model_without_weights
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.registry import make_policy
from sqap_vla_ros.models.vla_model import VlaModel
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

WEIGHT_TYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of the weights of a float policy."""


def load_policy(
    directory: str | Path,
    *,
    recipe: str | Path | None = None,
    runtime: RuntimeOptions = RuntimeOptions(),
) -> Policy:
    """
    Load a policy directory, compressed or not.

    Args:
        directory: with `config.json`, the weights, tokenizer and statistics.
        recipe: recipe to compress a float policy with on the way, a file or a name as for
            `load_recipe`; not for directories that are compressed already.
        runtime: device, kernels and CUDA graphs. The threads are those of the process
            (`torch.set_num_threads`), which the caller sets.

    Raises:
        UserError: names the file or field that is wrong.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(
            f'checkpoint {directory}: no such directory; expected a policy directory '
            'with config.json and model.safetensors'
        )
    _check_device(runtime.device)
    config = load_config(directory)
    applied = Recipe()
    if is_compressed(directory):
        if recipe is not None:
            raise UserError(
                f'checkpoint {directory} is compressed already; apply {recipe} to the '
                'float policy that it came from'
            )
        model = model_without_weights(config, directory / CONFIG_FILE)
        applied = load_compressed_into(model, directory).recipe
        _check_recipe(directory / RECIPE_FILE, applied)
        model.restore_buffers()
        float_bytes = float_parameter_bytes(model)
    else:
        model = load_model(directory)
        float_bytes = parameter_bytes(model)
        if recipe is not None:
            applied = load_recipe(recipe)
            compress_model(model, applied, calibration_of(directory, applied))
    model.to(runtime.device)
    stored_bytes = parameter_bytes(model)
    backends = prepare(model, runtime.backend)
    quantization, pruning = applied.quantization, applied.pruning
    description = {
        'checkpoint': str(directory),
        'sha256': file_sha256(directory / WEIGHTS_FILE),
        'recipe': applied.name,
        'parameter_bytes': parameter_bytes(model),
        'stored_bytes': stored_bytes,
        'float_parameter_bytes': float_bytes,
        'backend': backends,
        'weight_bits': quantization.weight_bits if quantization else 32,
        'activation_bits': quantization.activation_bits if quantization else 32,
        'protection_radius_m': pruning.protection_radius_m
        if pruning and pruning.method == 'sqap'
        else 0.0,
        'device': str(runtime.device),
    }
    return make_policy(model, directory, description, runtime)


def _check_recipe(path: Path, applied: Recipe) -> None:
    """
    Check that the recipe beside compressed weights is the one in them, which is used.

    Raises:
        UserError: somebody changed the file; names the first key.
    """
    given, used = _flat(load_recipe(path)), _flat(applied)
    key = next((key for key in {**used, **given} if given.get(key) != used.get(key)), None)
    if key is None:
        return
    raise UserError(
        f'{path}: {key} is {given.get(key)!r:.40}, but the weights were compressed with '
        f'{used.get(key)!r:.40}; the file is only a copy: compress the float policy again with '
        'another recipe'
    )


def _flat(recipe: Recipe) -> dict[str, Any]:
    """List the keys of a recipe, those of a part as 'part.key' after the part itself."""
    flat: dict[str, Any] = {}
    for key, value in recipe_to_dict(recipe).items():
        if key in ('quantization', 'pruning'):
            flat[key] = 'none' if value is None else 'given'
            flat |= {f'{key}.{name}': entry for name, entry in (value or {}).items()}
        else:
            flat[key] = value
    return flat


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise UserError(f"device is {name!r}, expected 'cpu', 'cuda' or 'cuda:N'")
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            f'device {name!r}: torch {torch.__version__} sees no CUDA device; set '
            "device to 'cpu' or install torch for your GPU"
        )


def calibration_of(
    directory: Path, recipe: Recipe, samples: Path | None = None
) -> Callable[[nn.Module], None] | None:
    """
    Make the calibration that `compress_model` runs; None where the recipe needs none.

    The whole policy runs on each sample, and no token is pruned.

    Args:
        directory: the float policy.
        recipe: to compress it with.
        samples: file that `calibration_samples` reads; None: `calibration.npz` of the directory.

    Raises:
        UserError: the file of samples is missing or wrong.
    """
    if not needs_calibration(recipe):
        return None
    observations = load_samples(samples or Path(directory) / CALIBRATION_FILE)

    def run(model: Any) -> None:
        policy = make_policy(model, directory, {})
        for observation in observations:
            policy.predict(observation)

    return run


def is_compressed(directory: Path) -> bool:
    """Whether a policy directory holds a compressed policy."""
    return (Path(directory) / RECIPE_FILE).exists()


def load_model(directory: Path, device: str = 'cpu', mapped: bool = False) -> VlaModel:
    """
    Load the bare float model of a policy directory.

    Args:
        directory: a float policy.
        device: to put it on.
        mapped: leave the weights in the file, mapped into memory; the file must not change
            while the model is in use.

    Raises:
        UserError: names the file, and the tensor that is missing, unexpected or of wrong shape.
    """
    directory = Path(directory)
    path = directory / WEIGHTS_FILE
    if is_compressed(directory):
        raise UserError(f'checkpoint {directory} is compressed; expected a float policy')
    model = model_without_weights(load_config(directory), directory / CONFIG_FILE)
    expected = model.state_dict()
    with open_safetensors(path) as file:
        names = set(file.keys())
        _compare_names(path, names, set(expected))
        for name in names:
            _compare_shape(path, name, file.get_slice(name).get_shape(), expected[name])
        if not mapped:
            _check_memory(path, parameter_bytes(model))
        for name in names:
            try:
                tensor = file.get_tensor(name)
            except SafetensorError as error:
                raise UserError(f'{path}: tensor {name}: {error}') from None
            _check_type(path, name, tensor)
            owner, _, leaf = name.rpartition('.')
            setattr(
                model.get_submodule(owner),
                leaf,
                nn.Parameter(tensor if mapped else tensor.clone()),
            )
    model.restore_buffers()
    return model.to(device)


def _compare_names(path: Path, found: set[str], expected: set[str]) -> None:
    if found != expected:
        missing, surplus = sorted(expected - found), sorted(found - expected)
        what = f'tensor {missing[0]} is missing' if missing else f'unexpected tensor {surplus[0]}'
        raise UserError(
            f'{path}: {what} ({len(missing)} missing, {len(surplus)} unexpected); '
            'config.json and weights do not belong together'
        )


def _compare_shape(path: Path, name: str, found: list[int], expected: torch.Tensor) -> None:
    """Compare what the header declares, before a tensor is read."""
    if tuple(found) != tuple(expected.shape):
        raise UserError(
            f'{path}: tensor {name} has shape {tuple(found)}, the '
            f'configuration expects {tuple(expected.shape)}'
        )


def _check_memory(path: Path, needed: int) -> None:
    """Refuse weights that this machine cannot hold, before it begins to swap or to kill."""
    present = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > present:
        raise UserError(
            f'{path}: the weights need {needed / 1e9:.1f} GB of memory, this machine has '
            f'{present / 1e9:.1f}'
        )


def _check_type(path: Path, name: str, found: torch.Tensor) -> None:
    if found.dtype not in WEIGHT_TYPES:
        raise UserError(
            f'{path}: tensor {name} is {str(found.dtype).removeprefix("torch.")}; a float policy '
            'has float32, bfloat16 or float16 weights: import the original checkpoint again'
        )
