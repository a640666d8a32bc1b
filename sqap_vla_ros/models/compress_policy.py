"""Compressing a float policy directory to a new one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import os
from pathlib import Path
import shutil

from sqap_vla_ros.compression.checkpoint import (
    file_sha256,
    float_parameter_bytes,
    INDEX_FILE,
    parameter_bytes,
    save_compressed,
    WEIGHTS_FILE,
)
from sqap_vla_ros.compression.compress import compress_model, layer_names
from sqap_vla_ros.compression.recipe import Recipe
from sqap_vla_ros.compression.recipe_files import RECIPE_FILE, save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import replaced_directory
from sqap_vla_ros.input_files import MIB, read_text, refuse_link_out
from sqap_vla_ros.models.calibration_samples import CALIBRATION_FILE
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.loading import calibration_of, is_compressed, load_model
from sqap_vla_ros.models.registry import make_policy

MODEL_CARD = 'README.md'
CARD_BYTES = MIB
COPIED_BYTES = 64 * MIB
"""Of a file that is copied as it is; the largest is a tokenizer."""


@dataclass(frozen=True)
class CompressionSummary:
    """How many layers were quantized, and the size of the weights before and after."""

    layers: int
    """Number of quantized layers."""
    packed_bytes: int
    """Size of all tensors of the compressed model, as stored."""
    float_bytes: int
    """Size of the same tensors in float32."""


def compress(
    source: str | Path,
    output: str | Path,
    recipe: Recipe,
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
    samples: str | Path | None = None,
) -> CompressionSummary:
    """
    Compress a policy directory.

    Args:
        source: directory of the float policy.
        output: directory to write, whole or not at all; an earlier compressed policy there is
            replaced.
        recipe: how to compress.
        progress: wraps the names of the layers, as `tqdm` does.
        samples: file of calibration samples, for recipes that need them; None:
            `calibration.npz` of the source.

    Returns:
        The number of quantized layers and the size of the weights before and after.

    Raises:
        UserError: `source` is not a float policy, `output` holds something other than a
            compressed policy, or the recipe needs samples and there are none.
    """
    source, output = Path(source), Path(output)
    _check_output(source, output)
    copied = _copied_files(source)
    # Mapped: of a large model, only the current layer and the packed ones are in memory.
    model = load_model(source, mapped=True)
    make_policy(model, source, {})  # what keeps a policy from loading is told now
    layers = layer_names(model, recipe)
    calibration = calibration_of(source, recipe, Path(samples) if samples else None)
    compress_model(model, recipe, calibration, progress)
    with replaced_directory(output) as partial:
        for path in copied:
            shutil.copyfile(path, partial / path.name)
        base = file_sha256(source / WEIGHTS_FILE)
        save_compressed(model, recipe, layers, partial, base)
        save_recipe(recipe, partial / RECIPE_FILE)
        _extend_model_card(partial / MODEL_CARD, recipe, base)
    return CompressionSummary(len(layers), parameter_bytes(model), float_parameter_bytes(model))


def _copied_files(source: Path) -> list[Path]:
    """
    List the files of a policy that go into its compressed one: all but weights and samples.

    Raises:
        UserError: one is a link to something that is not part of the policy, or cannot be read.
    """
    files = []
    for path in sorted(source.iterdir()):
        data = path.name in (INDEX_FILE, CALIBRATION_FILE) or path.suffix == '.safetensors'
        if data or path.name.startswith('.') or not path.is_file():
            continue
        refuse_link_out(path)
        if not os.access(path, os.R_OK):
            raise UserError(f'{path}: cannot be read; expected the files of a policy')
        if path.stat().st_size > COPIED_BYTES:
            raise UserError(
                f'{path}: larger than {COPIED_BYTES // MIB} MiB; expected the files of a policy: '
                'move it out of the folder'
            )
        if path.name == MODEL_CARD:  # what is wrong is told now, not after an hour
            read_text(path, CARD_BYTES, 'a model card')
        files.append(path)
    return files


def _check_output(source: Path, output: Path) -> None:
    if is_compressed(source):
        raise UserError(f'{source} is compressed already; give the float policy that it came from')
    if output.exists() and not output.is_dir():
        raise UserError(f'{output} is a file; expected a directory to write')
    if (
        output.exists()
        and any(output.iterdir())
        and not (is_compressed(output) and (output / CONFIG_FILE).exists())
    ):
        raise UserError(
            f'{output} is not empty and holds no compressed policy; choose another directory'
        )


def _extend_model_card(path: Path, recipe: Recipe, base_sha256: str) -> None:
    card = '# Policy'
    if path.exists():
        card = read_text(path, CARD_BYTES, 'a model card').rstrip()
    path.write_text(
        f'{card}\n\n## Compressed\n\nMade by `sqap_vla compress` with the recipe '
        f'`{recipe.name}` (recipe.yaml) from weights with SHA-256 `{base_sha256}`. '
        'Success rates above are those of the float policy.\n',
        'utf-8',
    )
