"""Released checkpoint files, read tensor by tensor and never unpickled."""

from abc import ABC, abstractmethod
from pathlib import Path
import pickle

from safetensors import SafetensorError
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import (
    open_safetensors,
    read_shard_index,
    refuse_pointer,
)

INDEX_FILE = 'model.safetensors.index.json'
SINGLE_FILE = 'model.safetensors'
_TYPES = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'F8_E4M3': 'float8_e4m3fn',
    'F8_E5M2': 'float8_e5m2',
    'I64': 'int64',
    'I32': 'int32',
    'I16': 'int16',
    'I8': 'int8',
    'U8': 'uint8',
    'BOOL': 'bool',
}
"""Names in safetensors files to torch's; others are left as they are."""
FLOAT_TYPES = ('float32', 'bfloat16', 'float16', 'float64')
"""That weights may be stored in; float64 only where another type is asked for."""
_DEPTH = 8
"""Of nested dictionaries in a `.pt` file; CogACT's have 2."""


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
    def dtype(self, name: str) -> str:
        """Type, as torch names it ('bfloat16'), without reading the tensor; raises as `shape`."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor onto the CPU. Raises UserError when it is missing."""

    def check_type(self, name: str) -> None:
        """
        Check that a tensor holds plain weights.

        Raises:
            UserError: it is quantized, or of another type that is not of floating point.
        """
        kind = self.dtype(name)
        if kind not in FLOAT_TYPES:
            marks = f'{name}.absmax', f'{name.removesuffix("weight")}SCB'
            by = ', quantized by bitsandbytes' if self.names() & set(marks) else ''
            raise UserError(
                f'{self.where}: tensor {name} is {kind}{by}; expected float32, bfloat16 or '
                'float16: give the unquantized checkpoint, or dequantize it first (sqap_vla '
                'compress quantizes it afterwards)'
            )

    def sizes(self, name: str, dimensions: int) -> tuple[int, ...]:
        """
        Shape of a tensor of which the number of dimensions is known.

        Raises:
            UserError: the tensor is missing, has another number of dimensions, is empty, or is
                not of floating point.
        """
        self.check_type(name)
        shape = self.shape(name)
        if len(shape) != dimensions or 0 in shape:
            raise UserError(
                f'{self.where}: tensor {name} has shape {shape}, expected {dimensions} '
                'dimensions, none of them 0'
            )
        return shape

    def _missing(self, name):
        return UserError(
            f'{self.where}: tensor {name} is missing; the checkpoint is incomplete '
            'or of another model'
        )


class SafetensorsReader(CheckpointReader):
    """
    A folder with `model.safetensors`, or with shards and their index.

    Each tensor is in one file. Where weights lie beside an index that does not name them, nothing
    says which of the two are meant.
    """

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        index = folder / INDEX_FILE
        if index.is_file():
            names = read_shard_index(index)
            _refuse_two_sets(folder, set(names.values()))
        elif (folder / SINGLE_FILE).exists():
            names = None
        else:
            raise UserError(f'{folder}: {_no_weights(folder)}')
        files = [SINGLE_FILE] if names is None else sorted(set(names.values()))
        self._open = {
            file: open_safetensors(folder / file, f'but {INDEX_FILE} names it') for file in files
        }
        held = {file: set(opened.keys()) for file, opened in self._open.items()}
        if names is None:
            names = dict.fromkeys(held[SINGLE_FILE], SINGLE_FILE)
        named: dict[str, set[str]] = {file: set() for file in files}
        for name, file in names.items():
            named[file].add(name)
        for file in files:
            for name in sorted(held[file] ^ named[file]):
                if name not in held[file]:
                    raise UserError(
                        f'{folder / file}: tensor {name} is missing, though {INDEX_FILE} names it'
                    )
                where = f'puts in {names[name]}' if name in names else 'does not name'
                raise UserError(
                    f'{folder / file}: has tensor {name}, which {INDEX_FILE} {where}; the files '
                    'do not belong together: download the checkpoint again'
                )
        self._files = names

    def names(self) -> set[str]:
        """See `CheckpointReader`."""
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `CheckpointReader`."""
        return tuple(self._file(name).get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """See `CheckpointReader`."""
        stored = str(self._file(name).get_slice(name).get_dtype())
        return _TYPES.get(stored, stored)

    def tensor(self, name: str) -> torch.Tensor:
        """See `CheckpointReader`."""
        try:
            return self._file(name).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise UserError(f'{self.where}: tensor {name} cannot be read ({error})') from None

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
        if path.exists() and not path.is_file():
            raise UserError(f'{path}: not a file; expected weights that torch saved')
        refuse_pointer(path)
        try:
            content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
        except FileNotFoundError:
            raise UserError(f'{path}: no such file') from None
        except pickle.UnpicklingError:
            raise UserError(
                f'{path}: holds pickled objects other than tensors, which are not '
                'loaded because they can run code; ask its author for plain tensors'
            ) from None
        except Exception as error:  # a damaged file can make the unpickler raise anything
            reason = ' '.join(str(error).split())[:120]
            raise UserError(f'{path}: truncated or not a torch zip file ({reason})') from None
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise UserError(f'{path}: no dictionary {key!r} with the weights')
        self._tensors: dict[str, torch.Tensor] = {}
        self._add(content[key], '', _DEPTH)

    def _add(self, tree, prefix, depth):
        for name, value in tree.items():
            whole = f'{prefix}{name}'
            if isinstance(value, dict) and depth:
                self._add(value, f'{whole}.', depth - 1)
            elif not isinstance(value, torch.Tensor) or value.layout != torch.strided:
                raise UserError(
                    f'{self.where}: {whole} is {type(value).__name__}, expected a dense tensor'
                )
            elif whole in self._tensors:
                raise UserError(f'{self.where}: two tensors are named {whole}')
            else:
                self._tensors[whole] = value.detach()

    def names(self) -> set[str]:
        """See `CheckpointReader`."""
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `CheckpointReader`."""
        return tuple(self.tensor(name).shape)

    def dtype(self, name: str) -> str:
        """See `CheckpointReader`."""
        return str(self.tensor(name).dtype).removeprefix('torch.')

    def tensor(self, name: str) -> torch.Tensor:
        """See `CheckpointReader`."""
        if name not in self._tensors:
            raise self._missing(name)
        return self._tensors[name]


def _refuse_two_sets(folder, named):
    """Refuse weights that the index does not name."""
    files = {path.name for path in folder.glob('model-*-of-*.safetensors')}
    files |= {SINGLE_FILE} if (folder / SINGLE_FILE).exists() else set()
    if files - named:
        raise UserError(
            f'{folder}: has {min(files - named)}, but {INDEX_FILE} names {min(named)}; two sets '
            'of weights: move the older files, and the index if it is old, out of the folder'
        )


def _no_weights(folder):
    """Tell what a folder without safetensors weights has instead."""
    expected = f'no {SINGLE_FILE} and no {INDEX_FILE}'
    pickled = sorted([*folder.glob('*.bin'), *folder.glob('*.pt'), *folder.glob('*.pth')])
    shards = sorted(folder.glob('model-*-of-*.safetensors'))
    if shards:
        return f'{shards[0].name}, but no {INDEX_FILE}; copy the index of the shards there too'
    if (folder / 'adapter_model.safetensors').exists() or (folder / 'adapter_model.bin').exists():
        return f'{expected}, only an adapter; merge it into its base model first'
    if pickled:
        return (
            f'{expected}, but {pickled[0].name}, which is pickled; load it with the '
            "authors' code and save it with save_pretrained(..., safe_serialization=True)"
        )
    if list(folder.glob('*.gguf')):
        return f'{expected}, but a GGUF file; give the original checkpoint'
    return f'{expected}; expected the folder of a released checkpoint'
