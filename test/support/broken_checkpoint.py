"""Released checkpoints with a fault: copies that are cheap to make and to change."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import shutil
from typing import Any

from safetensors.torch import load_file, save_file
import torch

from sqap_vla_ros.models.importers.released import ImportOptions

from support.released_families import write_released


def copy_of(folder: Path, copy: Path) -> Path:
    """Copy a folder by hard links; change its files with the functions below only."""
    shutil.copytree(folder, copy, copy_function=os.link)
    return copy


def write_single(family: str, folder: Path) -> ImportOptions:
    """Write a released checkpoint with its weights in one file."""
    options = write_released(family, folder)
    shards = sorted(folder.glob('model-*.safetensors'))
    if shards:
        tensors = {}
        for shard in shards:
            tensors |= load_file(shard)
            shard.unlink()
        save_file(tensors, folder / 'model.safetensors')
        (folder / 'model.safetensors.index.json').unlink()
    return options


def change_tensors(
    folder: Path,
    edit: Callable[[dict[str, torch.Tensor]], Any],
    file: str = 'model.safetensors',
) -> None:
    """Apply `edit` to the tensors of a safetensors file; it changes them or returns others."""
    tensors = load_file(folder / file)
    tensors = edit(tensors) or tensors
    (folder / file).unlink()
    save_file(tensors, folder / file)


def change_json(folder: Path, file: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `edit` to a JSON object, which it changes."""
    data = json.loads((folder / file).read_text())
    edit(data)
    write(folder, file, json.dumps(data))


def write(folder: Path, file: str, content: str | bytes) -> None:
    """Replace a file."""
    path = folder / file
    path.unlink(missing_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_pointer(folder: Path, file: str) -> None:
    """Replace a file by the Git LFS pointer that a clone without git-lfs has."""
    oid = '0' * 63 + '7'
    write(
        folder,
        file,
        f'version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 4925122448\n',
    )


def change_pt(folder: Path, file: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `edit` to the groups of CogACT's weights."""
    content = torch.load(folder / file, weights_only=True)
    edit(content['model'])
    (folder / file).unlink()
    torch.save(content, folder / file)
