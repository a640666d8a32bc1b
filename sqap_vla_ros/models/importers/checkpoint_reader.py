"""Released checkpoint files, read tensor by tensor and never unpickled."""

from abc import ABC, abstractmethod
from pathlib import Path
import pickle

from safetensors import safe_open, SafetensorError
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json

INDEX_FILE = 'model.safetensors.index.json'
SINGLE_FILE = 'model.safetensors'


class CheckpointReader(ABC):
    """Named tensors in files. What `tensor` returns may be backed by the file: do not write it."""

    where: str
    """The file or folder, for messages."""

    @abstractmethod
    def names(self) -> set[str]:
        """Names of all tensors."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Shape without reading the tensor. Raises UserError when it is missing."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor onto the CPU. Raises UserError when it is missing."""

    def _missing(self, name):
        return UserError(
            f'{self.where}: tensor {name} is missing; the checkpoint is incomplete '
            'or of another model'
        )


class SafetensorsReader(CheckpointReader):
    """A folder with `model.safetensors`, or with shards and their index."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        index = folder / INDEX_FILE
        if index.is_file():
            names = read_json(index).get('weight_map')
            if not isinstance(names, dict):
                raise UserError(f'{index}: weight_map is missing; expected tensor names to files')
            files = {file: folder / str(file) for file in set(names.values())}
        elif (folder / SINGLE_FILE).is_file():
            names, files = None, {SINGLE_FILE: folder / SINGLE_FILE}
        else:
            raise UserError(
                f'{folder}: no {SINGLE_FILE} and no {INDEX_FILE}; expected the folder '
                'of a released checkpoint'
            )
        self._open = {file: _open(path) for file, path in files.items()}
        if names is None:
            names = dict.fromkeys(self._open[SINGLE_FILE].keys(), SINGLE_FILE)
        held = {file: set(opened.keys()) for file, opened in self._open.items()}
        for name, file in names.items():
            if name not in held[file]:
                raise UserError(
                    f'{folder / file}: tensor {name} is missing, though {INDEX_FILE} names it'
                )
        self._files = names

    def names(self) -> set[str]:
        """See `CheckpointReader`."""
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `CheckpointReader`."""
        return tuple(self._file(name).get_slice(name).get_shape())

    def tensor(self, name: str) -> torch.Tensor:
        """See `CheckpointReader`."""
        return self._file(name).get_tensor(name)

    def _file(self, name):
        if name not in self._files:
            raise self._missing(name)
        return self._open[self._files[name]]


class TorchReader(CheckpointReader):
    """
    A `.pt` file of nested dictionaries under one key; names are joined by dots.

    Mapped into memory, and loaded with `weights_only`: a file with code in it is refused.
    """

    def __init__(self, path: Path, key: str = 'model') -> None:
        self.where = str(path)
        try:
            content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
        except FileNotFoundError:
            raise UserError(f'{path}: no such file') from None
        except pickle.UnpicklingError:
            raise UserError(
                f'{path}: holds pickled objects other than tensors, which are not '
                'loaded because they can run code; ask its author for plain tensors'
            ) from None
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            reason = ' '.join(str(error).split())[:120]
            raise UserError(f'{path}: truncated or not a torch zip file ({reason})') from None
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise UserError(f'{path}: no dictionary {key!r} with the weights')
        self._tensors = dict(_flatten(content[key], ''))

    def names(self) -> set[str]:
        """See `CheckpointReader`."""
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `CheckpointReader`."""
        return tuple(self.tensor(name).shape)

    def tensor(self, name: str) -> torch.Tensor:
        """See `CheckpointReader`."""
        if name not in self._tensors:
            raise self._missing(name)
        return self._tensors[name]


def _flatten(tree, prefix):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{name}.')
        elif isinstance(value, torch.Tensor):
            yield prefix + name, value


def _open(path):
    try:
        return safe_open(path, 'pt')
    except FileNotFoundError:
        raise UserError(f'{path}: no such file, though {INDEX_FILE} names it') from None
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path}: truncated or not a safetensors file ({error})') from None
