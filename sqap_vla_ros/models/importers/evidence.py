"""
What a folder is, by its files and not by one field of its configuration.

Many folders look alike: a fine-tune with another head has the `model_type` of its base model.
Known ones that this package does not run are told by name, before anything else is read.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import MIB, read_bytes, refuse_pointer

CODE_BYTES = MIB
_NO_DECODER = ' has no language decoder, which this package prunes and quantizes; it'
UNSUPPORTED = {
    'pi05': 'pi0.5',
    'pi0_5': 'pi0.5',
    'pi0_fast': 'pi0-FAST',
    'pi0fast': 'pi0-FAST',
    'smolvla': 'SmolVLA',
    'groot': 'GR00T',
    'gr00t': 'GR00T',
    'xvla': 'X-VLA',
    'wall_x': 'Wall-X',
    'openvla_oft': 'OpenVLA-OFT',
    'act': 'ACT' + _NO_DECODER,
    'diffusion': 'Diffusion Policy' + _NO_DECODER,
    'vqbet': 'VQ-BeT' + _NO_DECODER,
    'tdmpc': 'TD-MPC' + _NO_DECODER,
    'sac': 'SAC' + _NO_DECODER,
}
"""`type` or `model_type` of a configuration to the name of a model that cannot be imported."""
OFT_FILES = (
    'action_head--*.pt',
    'proprio_projector--*.pt',
    'noisy_action_projector--*.pt',
    'vision_backbone--*.pt',
)
_OFT_CODE = 'modeling_prismatic.py', b'NUM_ACTIONS_CHUNK'
"""A file of the checkpoint's own code, and a word that only OpenVLA-OFT's has."""
_ADAPTER_FILES = 'adapter_config.json', 'adapter_model.safetensors', 'adapter_model.bin'
_WEIGHTS = 'model.safetensors', 'model.safetensors.index.json', 'checkpoints/*.pt'
_MARKS = {
    'OpenVLA': ('modeling_prismatic.py', 'configuration_prismatic.py', 'processing_prismatic.py'),
    'CogACT': ('checkpoints/*.pt',),
    'lerobot': ('policy_preprocessor.json', 'policy_postprocessor.json', 'train_config.json'),
    'openpi in JAX': ('params/_METADATA', 'params/_CHECKPOINT_METADATA'),
}
"""Files that only one kind of checkpoint has."""


def refuse_foreign(where: Path | str, files: Iterable[str]) -> None:
    """
    Refuse a folder whose files belong to a model that is not supported, or to two models.

    Args:
        where: the folder or repository, for messages.
        files: its files, as paths relative to it with '/'.

    Raises:
        UserError: says what the folder is, by which file, and what to do.
    """
    names = sorted(files)
    if oft := _first(names, OFT_FILES):
        raise UserError(
            f'{where}: OpenVLA-OFT ({oft} replaces the action tokens), which this package does '
            'not run; expected an OpenVLA checkpoint'
        )
    if adapter := _first(names, _ADAPTER_FILES):
        weights = _first(names, _WEIGHTS)
        if weights is None:
            raise UserError(
                f'{where}: only a LoRA adapter ({adapter}); merge it into its base model and '
                'give the merged checkpoint'
            )
        raise UserError(
            f'{where}: has {weights} and {adapter}; merge the adapter into the weights, or move '
            'it out of the folder where that is done'
        )
    found = {kind: mark for kind, marks in _MARKS.items() if (mark := _first(names, marks))}
    if len(found) > 1:
        marks = ' and '.join(f'{mark} of {kind}' for kind, mark in found.items())
        raise UserError(f'{where}: two checkpoints in one folder, with {marks}; give one')
    if 'openpi in JAX' in found:
        raise UserError(
            f"{where}: JAX weights of openpi; convert them with openpi's "
            'examples/convert_jax_model_to_pytorch.py and give the result'
        )


def refuse_foreign_folder(folder: Path) -> None:
    """
    Refuse as `refuse_foreign` does, and by what is in the files.

    That is the code that a checkpoint brings along, and a pointer in place of a file (Git LFS).

    Raises:
        UserError: see `refuse_foreign`.
    """
    files = [
        path for pattern in ('*', 'checkpoints/*', 'params/*') for path in folder.glob(pattern)
    ]
    for path in sorted(files):
        if path.is_file():
            refuse_pointer(path)
    refuse_foreign(folder, [path.relative_to(folder).as_posix() for path in files])
    code, word = _OFT_CODE
    if (folder / code).is_file() and word in read_bytes(folder / code, CODE_BYTES, 'code'):
        raise UserError(
            f'{folder}: OpenVLA-OFT ({code} predicts chunks), which this package does not run; '
            'expected an OpenVLA checkpoint'
        )
    native = folder / 'checkpoints'
    if native.is_dir() and (folder / 'model.safetensors').exists():
        raise UserError(
            f'{folder}: has model.safetensors and checkpoints/; two checkpoints in one folder: '
            'give one'
        )


def refuse_unsupported(path: Path, data: dict[str, Any], supported: Iterable[str] = ()) -> None:
    """
    Refuse a configuration of a model that is known and not supported, or of two models.

    Args:
        path: of the configuration, for messages.
        data: its content.
        supported: `model_type`s of the families, among them those of other packages.

    Raises:
        UserError: names the model.
    """
    kinds = {str(data[key]): key for key in ('type', 'model_type') if data.get(key) is not None}
    if len(kinds) > 1:
        both = ' and '.join(f'{key} {kind!r}' for kind, key in kinds.items())
        raise UserError(f'{path}: has {both}; expected the configuration of one model')
    if 'vla' in data and kinds:
        kind, key = next(iter(kinds.items()))
        raise UserError(
            f"{path}: has {key} {kind!r} and CogACT's vla; expected the configuration of one model"
        )
    for kind in set(kinds) - set(supported):
        for known, title in UNSUPPORTED.items():
            if kind == known or (known in ('groot', 'gr00t') and kind.lower().startswith(known)):
                raise UserError(
                    f'{path}: model type is {kind!r}: {title} is not supported; see doc/models.md'
                )
    if data.get('pi05') is True:
        raise UserError(f'{path}: pi05 is true: pi0.5 is not supported; see doc/models.md')


def _first(names, patterns):
    return next((n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)), None)
