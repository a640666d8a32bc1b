"""Policy directories, compressed or not, to policies."""

from pathlib import Path

from safetensors import safe_open, SafetensorError
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
from sqap_vla_ros.compression.recipe import load_recipe, needs_calibration, Recipe, RECIPE_FILE
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.calibration_samples import CALIBRATION_FILE, load_samples
from sqap_vla_ros.models.config import load_config
from sqap_vla_ros.models.registry import build_model, make_policy
from sqap_vla_ros.policy import Policy


def load_policy(
    directory: str | Path,
    device: str = 'cpu',
    recipe: str | Path | None = None,
    backend: str = 'auto',
    cuda_graphs: str = 'auto',
) -> Policy:
    """
    Load a policy directory onto a device.

    recipe: compress a float policy with this recipe file on the way; not for directories that
    are compressed already. backend: of the quantized layers, see `compression.backends`;
    cuda_graphs: see `step_runner.make_runner`. Raises UserError that names the file or field that
    is wrong.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(
            f'checkpoint {directory}: no such directory; expected a policy directory '
            'with config.json and model.safetensors'
        )
    config = load_config(directory)
    applied = Recipe()
    if is_compressed(directory):
        if recipe is not None:
            raise UserError(
                f'checkpoint {directory} is compressed already; apply {recipe} to the '
                'float policy that it came from'
            )
        with torch.device('meta'):
            model = build_model(config)
        applied = load_compressed_into(model, directory).recipe
        model.restore_buffers()
        float_bytes = float_parameter_bytes(model)
    else:
        model = load_model(directory)
        float_bytes = parameter_bytes(model)
        if recipe is not None:
            applied = load_recipe(recipe)
            compress_model(model, applied, calibration_of(directory, applied))
    model.to(device)
    stored_bytes = parameter_bytes(model)
    backends = prepare(model, backend)
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
        'device': str(device),
    }
    return make_policy(model, directory, description, cuda_graphs)


def calibration_of(directory: Path, recipe: Recipe, samples: Path | None = None):
    """
    Calibration for `compress`; None where the recipe needs none.

    samples: a file as `models.calibration` reads it; None: `calibration.npz` of the directory.
    The whole policy runs on each sample, and no token is pruned.
    """
    if not needs_calibration(recipe):
        return None
    observations = load_samples(samples or Path(directory) / CALIBRATION_FILE)

    def run(model) -> None:
        policy = make_policy(model, directory, {})
        for observation in observations:
            policy.predict(observation)

    return run


def is_compressed(directory: Path) -> bool:
    """Whether a policy directory holds a compressed policy."""
    return (Path(directory) / RECIPE_FILE).exists()


def load_model(directory: Path, device: str = 'cpu', mapped: bool = False) -> nn.Module:
    """
    Load the bare float model of a policy directory.

    mapped: leave the weights in the file, mapped into memory; the file must not change while the
    model lives.

    Raises UserError that names the file, and the tensor where one is missing, has another shape
    or is too many.
    """
    path = Path(directory) / WEIGHTS_FILE
    if is_compressed(directory):
        raise UserError(f'checkpoint {directory} is compressed; expected a float policy')
    with torch.device('meta'):
        model = build_model(load_config(directory))
    expected = model.state_dict()
    try:
        with safe_open(path, 'pt') as file:
            names = set(file.keys())
            _compare_names(path, names, set(expected))
            for name in names:
                tensor = file.get_tensor(name)
                if tensor.shape != expected[name].shape:
                    raise UserError(
                        f'{path}: tensor {name} has shape {tuple(tensor.shape)}, the '
                        f'configuration expects {tuple(expected[name].shape)}'
                    )
                owner, _, leaf = name.rpartition('.')
                setattr(
                    model.get_submodule(owner),
                    leaf,
                    nn.Parameter(tensor if mapped else tensor.clone()),
                )
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; the policy directory is incomplete') from None
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path}: truncated or not a safetensors file ({error})') from None
    model.restore_buffers()
    return model.to(device)


def _compare_names(path, found, expected) -> None:
    if found != expected:
        missing, surplus = sorted(expected - found), sorted(found - expected)
        what = f'tensor {missing[0]} is missing' if missing else f'unexpected tensor {surplus[0]}'
        raise UserError(
            f'{path}: {what} ({len(missing)} missing, {len(surplus)} unexpected); '
            'config.json and weights do not belong together'
        )
