"""Released checkpoints to policy directories, streamed tensor by tensor."""

from collections.abc import Callable, Iterable
import json
from pathlib import Path
import shutil

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json, replaced_directory
from sqap_vla_ros.models.config import save_config
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.released import ImportOptions, Released
from sqap_vla_ros.models.importers.safetensors_writer import write_safetensors
from sqap_vla_ros.models.preprocessing.prismatic_text import load_tokenizer, TOKENIZER_FILE
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE
from sqap_vla_ros.models.registry import all_families, build_model, titles

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def open_released(folder: Path, options: ImportOptions = ImportOptions()) -> Released:
    """
    Recognise a released checkpoint and open it.

    Args:
        folder: as the authors lay it out.
        options: what the checkpoint leaves open.

    Raises:
        UserError: names the folder, file or key that is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f'{folder}: no such folder; expected a released {titles()} checkpoint on this machine'
        )
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f'{folder}: no {CONFIG_FILE}; expected the folder of a released {titles()} checkpoint'
        )
    data = read_json(folder / CONFIG_FILE)
    for family in all_families():
        if family.open_released is not None and family.recognises(data):
            return family.open_released(folder, options)
    kind = data.get('type') or data.get('model_type')
    raise UserError(
        f'{folder / CONFIG_FILE}: model type is {kind!r}, expected a released {titles()} '
        'checkpoint'
    )


def import_policy(
    source: Path,
    output: Path,
    options: ImportOptions = ImportOptions(),
    progress: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> Released:
    """
    Write a policy directory from a released checkpoint.

    Weights are copied one tensor at a time; the directory appears whole or not at all.

    Args:
        source: folder of the checkpoint.
        output: directory to write; it must not exist or be empty.
        options: what the checkpoint leaves open.
        progress: wraps the names of the tensors, as `tqdm` does.

    Raises:
        UserError: names the file, key, tensor or option that is wrong.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f'{output}: exists and is not empty; choose another directory')
    if options.dtype is not None and options.dtype not in DTYPES:
        raise UserError(f'--dtype is {options.dtype!r}, expected one of {", ".join(DTYPES)}')
    released = open_released(source, options)
    load_tokenizer(released.tokenizer)
    tensors = plan(released, None if options.dtype is None else DTYPES[options.dtype])
    with replaced_directory(output) as partial:
        names = iter(progress(tensors))

        def read(name: str) -> torch.Tensor:
            next(names)
            return released.sources[name].read(released.reader).to(tensors[name][0])

        save_config(released.config, partial)
        text = json.dumps(released.statistics, indent=1)
        (partial / STATISTICS_FILE).write_text(text + '\n', 'utf-8')
        shutil.copyfile(released.tokenizer / TOKENIZER_FILE, partial / TOKENIZER_FILE)
        (partial / 'README.md').write_text(_card(released, Path(source)), 'utf-8')
        write_safetensors(partial / 'model.safetensors', tensors, read)
        next(names, None)  # lets a progress bar end
    return released


def plan(
    released: Released, dtype: torch.dtype | None = None
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """
    List type and shape of every tensor of our model, in its order.

    Args:
        released: the opened checkpoint, which is checked against the model.
        dtype: to convert the weights to, except for the action head; None: as they are stored.

    Raises:
        UserError: names the first tensor that is missing or has another shape.
    """
    with torch.device('meta'):
        expected = build_model(released.config).state_dict()
    missing = sorted(set(expected) - set(released.sources))
    if missing:
        raise UserError(
            f'{released.reader.where}: nothing in it gives {missing[0]}; the '
            'checkpoint is incomplete or of another model'
        )
    tensors = {}
    for name, ours in expected.items():
        source = released.sources[name]
        tensor = source.read(released.reader)
        if tensor.shape != ours.shape:
            raise UserError(
                f'{released.reader.where}: tensor {source.released} has shape '
                f'{released.reader.shape(source.released)}; {name} needs {tuple(ours.shape)}'
            )
        kept = tensor.dtype if dtype is None or name.startswith('action_head.') else dtype
        tensors[name] = kept, tuple(tensor.shape)
    return tensors


def _card(released: Released, source: Path) -> str:
    config = released.config
    return (
        f'# {released.family}\n\nImported by `sqap_vla import` from `{source.name}`. '
        f'Action statistics: `{config.dataset}`; one action lasts '
        f'{config.step_s:.4g} s; cameras: {", ".join(config.cameras)}. The licence and the '
        'success rates are those of the original checkpoint.\n'
    )
