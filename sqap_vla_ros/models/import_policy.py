"""Released checkpoints to policy directories, streamed tensor by tensor."""

from collections.abc import Callable, Iterable
import json
import math
import os
from pathlib import Path
import shutil

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import replaced_directory
from sqap_vla_ros.input_files import read_json
from sqap_vla_ros.models.config import check_interface, model_without_weights, save_config
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.evidence import refuse_foreign_folder, refuse_unsupported
from sqap_vla_ros.models.importers.released import ImportOptions, Released
from sqap_vla_ros.models.importers.safetensors_writer import write_safetensors
from sqap_vla_ros.models.importers.sources import meaning, refuse_surplus
from sqap_vla_ros.models.preprocessing.prismatic_text import check_tokenizer
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE
from sqap_vla_ros.models.preprocessing.tokenizer_file import (
    load_tokenizer,
    TOKENIZER_FILE,
)
from sqap_vla_ros.models.registry import all_families, titles

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
    refuse_foreign_folder(folder)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f'{folder}: no {CONFIG_FILE}; expected the folder of a released {titles()} checkpoint'
        )
    data = read_json(folder / CONFIG_FILE)
    families = all_families()
    refuse_unsupported(folder / CONFIG_FILE, data, [family.model_type for family in families])
    openers = {
        family.title: family.open_released
        for family in families
        if family.open_released is not None and family.recognises(data)
    }
    if len(openers) > 1:
        raise UserError(
            f'{folder / CONFIG_FILE}: fits {" and ".join(openers)}; expected the configuration '
            'of one model'
        )
    for opener in openers.values():
        try:
            released = opener(folder, options)
            check_interface(released.config)
        except ValueError as error:  # of a configuration
            raise UserError(f'{folder}: {error}') from None
        return released
    kind = data.get('type') or data.get('model_type')
    if any(kind == family.model_type for family in families):
        raise UserError(
            f'{folder}: a policy of this package already, or one that was changed; expected a '
            f'released {titles()} checkpoint'
        )
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
    _check_tokenizer(released)
    tensors = plan(released, None if options.dtype is None else DTYPES[options.dtype])
    _check_space(output, tensors)
    with replaced_directory(output) as partial:
        names = iter(progress(tensors))

        def read(name: str) -> torch.Tensor:
            next(names)
            return _finite(released, name, tensors[name][0])

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
        dtype: to convert the weights to, except for the action head; None: as they are stored,
            in the widest type of the part where that differs.

    Raises:
        UserError: names the first tensor that is missing, that no part of our model takes, that
            has another shape, or that is float64 while no type is asked for.
    """
    where = Path(released.reader.where)
    expected = model_without_weights(released.config, where).state_dict()
    sources = released.sources
    used = {sources[name].released for name in expected if name in sources}
    surplus = sorted({source.released for source in sources.values()} - used)
    missing = sorted(set(expected) - set(sources))
    if missing and not any(map(meaning, surplus)):
        raise UserError(
            f'{where}: nothing in it gives {missing[0]}; the checkpoint is incomplete or of '
            'another model'
        )
    refuse_surplus(released.reader, surplus)
    types, shapes = {}, {}
    for name, ours in expected.items():
        source = sources[name]
        tensor = source.read(released.reader)
        if tensor.shape != ours.shape:
            raise UserError(
                f'{where}: tensor {source.released} has shape '
                f'{released.reader.shape(source.released)}; {name} needs {tuple(ours.shape)}'
            )
        if tensor.dtype == torch.float64 and dtype is None:
            raise UserError(
                f'{where}: tensor {source.released} is float64; say what to store it in: '
                '--dtype float32, for example'
            )
        types[name], shapes[name] = tensor.dtype, tuple(tensor.shape)
    kept = _one_type_a_part(types, released.own_types, dtype)
    return {name: (kept[name], shape) for name, shape in shapes.items()}


def _one_type_a_part(
    types: dict[str, torch.dtype], own: tuple[str, ...], wanted: torch.dtype | None
) -> dict[str, torch.dtype]:
    """
    Choose the type that each tensor is written in.

    The two parts of a model, the action head and all else, compute in one type each. Checkpoints
    in bfloat16 often keep norms or the vision tower in float32: the widest type of a part holds
    every value of it.
    """
    parts: dict[bool, torch.dtype] = {}
    for name, stored in types.items():
        head = name.startswith(own)
        parts[head] = torch.promote_types(parts.get(head, stored), stored)
    return {
        name: parts[name.startswith(own)]
        if wanted is None or name.startswith('action_head.')
        else wanted
        for name in types
    }


def _check_tokenizer(released: Released) -> None:
    """Refuse a tokenizer that is not the one that the model was trained with."""
    tokenizer = load_tokenizer(released.tokenizer)
    needed, path = released.vocabulary, released.tokenizer / TOKENIZER_FILE
    if needed is None:
        return
    check_tokenizer(path, tokenizer, needed.title, needed.ids, needed.spells)
    largest = max(tokenizer.get_vocab().values())
    if largest >= needed.size:
        raise UserError(
            f'{path}: has ids up to {largest}, but the model embeds only {needed.size}; give the '
            f'folder of the tokenizer.json of {needed.title} with --tokenizer'
        )


def _check_space(output: Path, tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    """Refuse where the weights would fill the disk, before they are copied."""
    needed = sum(dtype.itemsize * math.prod(shape) for dtype, shape in tensors.values())
    folder = next(p for p in Path(os.path.realpath(output)).parents if p.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f'{output}: needs {needed / 1e9:.2f} GB, but {folder} has {free / 1e9:.2f} GB free'
        )


def _finite(released: Released, name: str, dtype: torch.dtype) -> torch.Tensor:
    """Read one of our tensors in the type that it is written in; refuse NaN and infinity."""
    source = released.sources[name]
    stored = source.read(released.reader)
    tensor = stored.to(dtype)
    # Smallest and largest value: NaN is passed on to them.
    if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
        damaged = not stored.isfinite().all()
        raise UserError(
            f'{released.reader.where}: tensor {source.released} has values that are '
            + (
                'NaN or infinite; the checkpoint is damaged: download it again'
                if damaged
                else f'too large for {str(dtype).removeprefix("torch.")}; choose another --dtype'
            )
        )
    return tensor


def _card(released: Released, source: Path) -> str:
    config = released.config
    return (
        f'# {released.family}\n\nImported by `sqap_vla import` from `{source.name}`. '
        f'Action statistics: `{config.dataset}`; one action lasts '
        f'{config.step_s:.4g} s; cameras: {", ".join(config.cameras)}. The licence and the '
        'success rates are those of the original checkpoint.\n'
    )
