"""
The compressed checkpoint: safetensors files with portable integer weights and a header.

doc/architecture.md describes the format. One file `model.safetensors`; above a size, shards and
the index `model.safetensors.index.json`, as transformers writes it. Each file is replaced whole,
so that a half-written file never has its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
import torch
from torch import nn

from sqap_vla_ros.compression.compress import CompressibleModel, configure, make_room
from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.compression.recipe import Recipe
from sqap_vla_ros.compression.recipe_files import recipe_from_dict, recipe_to_dict
from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.files import replaced_file
from sqap_vla_ros.input_files import open_regular, open_safetensors, parse_json, read_shard_index

WEIGHTS_FILE = 'model.safetensors'
INDEX_FILE = 'model.safetensors.index.json'
FORMAT = 'sqap_vla_ros'
FORMAT_VERSION = 1
SHARD_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Header:
    """Description of a compressed checkpoint, stored in it."""

    recipe: Recipe
    layers: tuple[str, ...]
    """Names of the compressed linear layers."""
    base_sha256: str
    """Hash of the float weights file that it was made from."""
    tensors_sha256: str
    """Hash over names and bytes of all tensors, in name order."""


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers in memory now."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def float_parameter_bytes(model: nn.Module) -> int:
    """Bytes that `parameter_bytes` would give before compression, in float32."""
    size = parameter_bytes(model)
    for module in model.modules():
        if isinstance(module, QuantLinear):
            size -= parameter_bytes(module)
            size += 4 * module.out_features * (module.in_features + (module.bias is not None))
    return size


def file_sha256(path: Path) -> str:
    """
    SHA-256 of a weights file, or of the index if the weights are sharded.

    Raises:
        UserError: the file cannot be read, or is no regular file.
    """
    path = Path(path)
    if not path.exists() and path.with_name(INDEX_FILE).exists():
        path = path.with_name(INDEX_FILE)
    try:
        with open_regular(path, 'weights') as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None


def save_compressed(
    model: nn.Module,
    recipe: Recipe,
    layers: list[str],
    directory: Path,
    base_sha256: str,
    shard_bytes: int = SHARD_BYTES,
) -> Header:
    """
    Write a compressed model's weights into a directory.

    Args:
        model: not yet prepared for a backend.
        recipe: what it was compressed with.
        layers: names of the compressed layers.
        directory: existing.
        base_sha256: hash of the float weights file.
        shard_bytes: largest size of one file, bytes.

    Returns:
        The header that was written.
    """
    tensors = {name: t.detach().contiguous() for name, t in sorted(model.state_dict().items())}
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        _add(digest, name, tensor)
    header = Header(recipe, tuple(layers), base_sha256, digest.hexdigest())
    metadata = {
        'format': FORMAT,
        'format_version': str(FORMAT_VERSION),
        'recipe': json.dumps(recipe_to_dict(recipe)),
        'layers': json.dumps(layers),
        'base_sha256': base_sha256,
        'tensors_sha256': header.tensors_sha256,
    }
    shards = _split(tensors, shard_bytes)
    if len(shards) == 1:
        _save(tensors, directory / WEIGHTS_FILE, metadata)
        return header
    names: dict[str, str] = {}
    for i, shard in enumerate(shards):
        file = f'model-{i + 1:05d}-of-{len(shards):05d}.safetensors'
        names.update(dict.fromkeys(shard, file))
        _save(shard, directory / file, metadata)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = json.dumps(
        {'metadata': {**metadata, 'total_size': total}, 'weight_map': names}, indent=1
    )
    with replaced_file(directory / INDEX_FILE) as path:
        path.write_text(index + '\n', 'utf-8')
    return header


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    with replaced_file(path) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # a full disk, for example
            raise OSError(str(error)) from None
        _sort_metadata(partial)


def _sort_metadata(path: Path) -> None:
    """
    Give the metadata of a safetensors file an order, so that equal content is equal bytes.

    The library writes it in another order each time, and policies are known by a hash of the file.
    """
    with open(path, 'r+b') as file:
        length = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(length))
        metadata = dict(sorted(header.pop('__metadata__', {}).items()))
        text = json.dumps(
            {'__metadata__': metadata, **header}, separators=(',', ':'), ensure_ascii=False
        ).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def read_header(directory: Path) -> Header:
    """
    Read the header of a compressed checkpoint, without its tensors.

    Raises:
        UserError: the file is missing, damaged or of a newer format.
    """
    return _Files(Path(directory)).header


def load_compressed_into(model: CompressibleModel, directory: Path) -> Header:
    """
    Load a compressed checkpoint into a model.

    Tensors are read one at a time; no float weight of a compressed layer ever exists.

    Args:
        model: built on the device 'meta'. After an error it cannot be used.
        directory: of the checkpoint.

    Returns:
        The header of the checkpoint.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing, unexpected or of another
            shape.
    """
    files = _Files(Path(directory))
    header = files.header
    for name in header.layers:
        if not isinstance(_submodule(model, name), nn.Linear):
            raise UserError(
                f'{files.main}: layer {name} is not a linear layer of this model; '
                'config.json and weights do not belong together'
            )
    make_room(model, header.recipe, list(header.layers))
    expected = model.state_dict()
    files.compare_names(set(expected))
    files.compare_shapes(expected)
    digest = hashlib.sha256()
    for name, tensor in files.tensors():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise UserError(
                f'{files.where(name)}: tensor {name} is {tensor.dtype}, expected '
                f'{expected[name].dtype}'
            )
        _add(digest, name, tensor)
        _assign(model, name, tensor)
    if digest.hexdigest() != header.tensors_sha256:
        raise UserError(
            f'{files.main}: the tensors do not match their hash: the file is damaged; '
            'compress the float policy again'
        )
    configure(model, header.recipe)
    return header


class _Files:
    """The one weights file of a directory, or its shards."""

    def __init__(self, directory: Path) -> None:
        index = directory / INDEX_FILE
        self._paths: dict[str, Path]
        if index.exists():
            single = directory / WEIGHTS_FILE
            if single.exists():  # its hash would be told, though it is not what is loaded
                raise UserError(
                    f'{directory}: has {WEIGHTS_FILE} and {INDEX_FILE}; two sets of weights: '
                    'move the older one out of the folder'
                )
            names = read_shard_index(index)
            self.main = index
            self._paths = {name: index.with_name(file) for name, file in names.items()}
            with open_safetensors(next(iter(self._paths.values()))) as file:
                metadata = file.metadata()
        else:
            self.main = directory / WEIGHTS_FILE
            with open_safetensors(self.main) as file:
                self._paths = dict.fromkeys(file.keys(), self.main)
                metadata = file.metadata()
        self.header = _parse(self.main, metadata or {})

    def where(self, name: str) -> Path:
        """File that holds a tensor."""
        return self._paths[name]

    def compare_names(self, expected: set[str]) -> None:
        """Raise UserError unless the files hold exactly these tensors."""
        missing, surplus = sorted(expected - set(self._paths)), sorted(set(self._paths) - expected)
        if missing or surplus:
            what = f'tensor {missing[0]} is missing' if missing else f'unexpected {surplus[0]}'
            raise UserError(
                f'{self.main}: {what} ({len(missing)} missing, {len(surplus)} '
                'unexpected); config.json and weights do not belong together'
            )

    def compare_shapes(self, expected: Mapping[str, torch.Tensor]) -> None:
        """Raise UserError unless the headers declare these shapes; no tensor is read."""
        for path in sorted(set(self._paths.values())):
            with open_safetensors(path) as file:
                held = set(file.keys())
                for name in (name for name, where in self._paths.items() if where == path):
                    if name not in held:
                        raise UserError(
                            f'{path}: tensor {name} is missing, though the index names it'
                        )
                    shape = tuple(file.get_slice(name).get_shape())
                    if shape != tuple(expected[name].shape):
                        raise UserError(
                            f'{path}: tensor {name} has shape {shape}, expected '
                            f'{expected[name].dtype} {tuple(expected[name].shape)}'
                        )

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every name and tensor, in name order, each a copy that outlives the file."""
        opened: Any = None
        path: Path | None = None
        for name in sorted(self._paths):
            if self._paths[name] != path:
                path = self._paths[name]
                opened = open_safetensors(path)
            try:
                yield name, opened.get_tensor(name).clone()
            except SafetensorError as error:
                raise UserError(f'{path}: tensor {name}: {error}') from None


def _parse(path: Path, metadata: dict[str, str]) -> Header:
    if metadata.get('format') != FORMAT:
        raise UserError(
            f'{path}: not a compressed checkpoint of this package (format '
            f'{shown(metadata.get("format"))}, expected {FORMAT!r})'
        )
    version = metadata.get('format_version', '')
    if version not in {str(known) for known in range(1, FORMAT_VERSION + 1)}:
        raise UserError(
            f'{path}: format version {shown(version)} is newer than this package reads '
            f'({FORMAT_VERSION}); update sqap_vla_ros'
        )
    try:
        layers = parse_json(metadata['layers'])
        recipe = parse_json(metadata['recipe'])
        hashes = metadata['base_sha256'], metadata['tensors_sha256']
    except (KeyError, ValueError) as error:
        raise UserError(f'{path}: metadata is missing or damaged: {error}') from None
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise UserError(f'{path}: metadata is damaged: layers is no list of names')
    if len(set(layers)) != len(layers):
        raise UserError(f'{path}: metadata is damaged: layers names one twice')
    return Header(recipe_from_dict(recipe, f'{path}: recipe'), tuple(layers), *hashes)


def _submodule(model: CompressibleModel, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _assign(model: CompressibleModel, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition('.')
    owner = model.get_submodule(path)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def _add(digest: 'hashlib._Hash', name: str, tensor: torch.Tensor) -> None:
    digest.update(name.encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).cpu().numpy().data)


def _split(tensors: dict[str, torch.Tensor], shard_bytes: int) -> list[dict[str, torch.Tensor]]:
    shards: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and used + size > shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += size
    return shards
