"""Released checkpoints to policy directories, streamed tensor by tensor."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import shutil
import tempfile

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.config import CONFIG_FILE, save_config
from sqap_vla_ros.models.families.pi0.importer import open_pi0
from sqap_vla_ros.models.importers.prismatic import open_cogact, open_openvla
from sqap_vla_ros.models.importers.released import ImportOptions, Released
from sqap_vla_ros.models.importers.safetensors_writer import write_safetensors
from sqap_vla_ros.models.preprocessing.prismatic_text import load_tokenizer, TOKENIZER_FILE
from sqap_vla_ros.models.preprocessing.statistics import STATISTICS_FILE
from sqap_vla_ros.models.registry import build_model

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def open_released(folder: Path, options: ImportOptions = ImportOptions()) -> Released:
    """
    Recognise a released checkpoint and open it.

    Raises UserError that names the folder, file or key that is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f'{folder}: no such folder; expected a released OpenVLA, CogACT or pi0 '
            'checkpoint on this machine'
        )
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f'{folder}: no {CONFIG_FILE}; expected the folder of a released OpenVLA, '
            'CogACT or pi0 checkpoint'
        )
    data = read_json(folder / CONFIG_FILE)
    kind = data.get('type') or data.get('model_type')
    if 'vla' in data:
        return open_cogact(folder, options)
    if kind == 'openvla':
        return open_openvla(folder, options)
    if kind == 'pi0':
        return open_pi0(folder, options)
    raise UserError(
        f'{folder / CONFIG_FILE}: model type is {kind!r}, expected a released '
        'OpenVLA, CogACT or pi0 checkpoint'
    )


def import_policy(
    source: Path, output: Path, options: ImportOptions = ImportOptions(), progress: Callable = iter
) -> Released:
    """
    Write a policy directory from a released checkpoint.

    Weights are copied one at a time; the directory appears whole or not at all. progress: wraps
    the tensor names, as tqdm does. Raises UserError.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f'{output}: exists and is not empty; choose another directory')
    if options.dtype is not None and options.dtype not in DTYPES:
        raise UserError(f'--dtype is {options.dtype!r}, expected one of {", ".join(DTYPES)}')
    released = open_released(source, options)
    load_tokenizer(released.tokenizer)
    tensors = plan(released, DTYPES.get(options.dtype))
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=output.parent, prefix=f'.{output.name}.'))
    try:
        names = iter(progress(tensors))

        def read(name):
            next(names)
            return released.sources[name].read(released.reader).to(tensors[name][0])

        save_config(released.config, partial)
        text = json.dumps(released.statistics, indent=1)
        (partial / STATISTICS_FILE).write_text(text + '\n', 'utf-8')
        shutil.copyfile(released.tokenizer / TOKENIZER_FILE, partial / TOKENIZER_FILE)
        (partial / 'README.md').write_text(_card(released, Path(source)), 'utf-8')
        write_safetensors(partial / 'model.safetensors', tensors, read)
        next(names, None)  # lets a progress bar end
        os.chmod(partial, 0o755)
        if output.exists():
            output.rmdir()
        os.rename(partial, output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return released


def plan(released: Released, dtype: torch.dtype | None = None) -> dict:
    """
    Type and shape of every tensor of our model, in its order, checked against the checkpoint.

    Raises UserError that names the first tensor that is missing or has another shape.
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
        keep = dtype is None or name.startswith('action_head.')
        tensors[name] = (tensor.dtype if keep else dtype), tuple(tensor.shape)
    return tensors


def _card(released, source) -> str:
    config = released.config
    return (
        f'# {released.family}\n\nImported by `sqap_vla import` from `{source.name}`. '
        f'Action statistics: `{config.dataset}`; one action lasts '
        f'{config.step_s:.4g} s; cameras: {", ".join(config.cameras)}. The licence and the '
        'success rates are those of the original checkpoint.\n'
    )
