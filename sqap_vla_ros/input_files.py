"""
Reading files that somebody else made: policies, recipes, profiles, bags, results.

Everything that the package reads from a file passes here, so that one place answers what a
hostile or damaged file can do. Only regular files are read, never more than a limit of bytes, and
YAML only where its aliases, written out, stay within a limit too. Whatever a parser raises becomes
one `UserError`.
"""

from collections.abc import Mapping
import json
import math
import os
from pathlib import Path
import stat
from typing import Any, BinaryIO
import zipfile

import numpy as np
import yaml

from sqap_vla_ros.errors import shown, UserError

MIB = 2**20
JSON_BYTES = 16 * MIB
"""A larger JSON file is refused; OpenVLA's, with the statistics of all datasets, has 1 MiB."""
JSON_NODES = 500_000
"""Lists and objects of a JSON file."""
YAML_BYTES = 2**18
"""A larger YAML file is refused; the package's own have at most 5 kB."""
YAML_EXPANDED = 2**20
"""Characters and values of a YAML file, with each alias written out."""
NPZ_BYTES = 2**31
"""Of the arrays of an .npz file, unpacked."""
YAML_DEPTH = 32
"""Of brackets in brackets."""
_POINTER = b'version https://git-lfs.github.com/spec/'


def read_bytes(path: Path, limit: int, expected: str) -> bytes:
    """
    Read a whole file.

    Args:
        path: a regular file, or a link to one.
        limit: largest allowed size, bytes.
        expected: what it should be, for messages: 'a recipe'.

    Raises:
        UserError: there is no such file, it cannot be read, is a folder, pipe or device, a Git LFS
            pointer, or larger than the limit.
    """
    with open_regular(path, expected) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    if len(data) > limit:
        raise UserError(f'{path}: larger than {_size(limit)}; expected {expected}')
    if data.startswith(_POINTER):
        raise UserError(_pointer(path))
    return data


def read_text(path: Path, limit: int, expected: str) -> str:
    """
    Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: as for `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, limit, expected).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path}: not text in UTF-8 ({error.reason} at byte {error.start}); expected '
            f'{expected}'
        ) from None


def read_json(
    path: Path, limit: int = JSON_BYTES, expected: str = 'the JSON file of a policy'
) -> dict[str, Any]:
    """
    Read a JSON object.

    Args:
        path: of the file.
        limit: largest allowed size, bytes.
        expected: what it should be, for messages.

    Raises:
        UserError: as for `read_text`, or it is not JSON, names a key twice, is nested too deeply,
            or holds something other than an object.
    """
    text = read_text(Path(path), limit, expected)
    try:
        data = parse_json(text)
    except ValueError as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from None
    if not isinstance(data, dict):
        raise UserError(f'{path}: expected a JSON object')
    return data


def parse_json(text: str, most: int = JSON_NODES) -> Any:
    """
    Parse JSON that came from a file.

    Args:
        text: JSON.
        most: lists and objects in it, each of which takes 20 times the memory that it has in text.

    Raises:
        ValueError: it is not JSON, names a key twice, has text that is no Unicode, is nested too
            deeply, or has too many lists and objects.
    """
    if text.count('[') + text.count('{') > most:
        raise ValueError(f'more than {most} lists and objects')
    try:
        data = json.loads(text, object_pairs_hook=_unique)
        if '\\ud' in text.lower():  # half of a pair of surrogates cannot be written anywhere
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError('nested too deeply') from None
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'key {shown(key)} is there twice')
        found[key] = value
    return found


def read_yaml(path: Path, expected: str) -> Any:
    """
    Read a YAML file of at most `YAML_BYTES`.

    Args:
        path: of the file.
        expected: what it should be, for messages.

    Returns:
        Its content; None where it is empty.

    Raises:
        UserError: as for `read_text`, or it is not YAML, names a key twice, or is too large with
            its aliases written out.
    """
    try:
        node = compose_yaml(read_text(path, YAML_BYTES, expected))
        if node is None:
            return None
        loader = _Loader('')
        try:
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        line, problem = yaml_problem(error)
        raise UserError(f'{path}:{line}: not readable as YAML: {problem}') from None
    except RecursionError:
        raise UserError(f'{path}: not readable as YAML: nested too deeply') from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        # What the constructors of dates, numbers and truth values make of nonsense.
        raise UserError(f'{path}: not readable as YAML: {str(error)[:100]}') from None


def compose_yaml(text: str) -> yaml.Node | None:
    """
    Parse YAML to its nodes, which know their lines.

    Returns:
        The top node; None where the text is empty.

    Raises:
        yaml.YAMLError: it is not YAML, nested too deeply, or too large with its aliases written
            out. `problem_mark`, where there is one, has the line.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _expanded(node, {})
    except RecursionError:
        raise yaml.YAMLError('nested too deeply') from None
    except ValueError as error:  # of a character number in an escape
        raise yaml.YAMLError(str(error)) from None
    return node


def yaml_problem(error: yaml.YAMLError) -> tuple[int, str]:
    """Say in which line of a YAML text something is wrong, from 1 on, and what."""
    mark = getattr(error, 'problem_mark', None)
    text = ' '.join(str(getattr(error, 'problem', None) or error).split())[:200]
    return 1 if mark is None else mark.line + 1, text


def _expanded(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count characters and values below a node, aliases as often as they are used."""
    size = known.setdefault(id(node), None)
    if size is not None:
        return size
    children = [node.value] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    size = 1
    for child in children:
        if isinstance(child, yaml.Node) and known.get(id(child), 0) is None:
            raise yaml.composer.ComposerError(
                None, None, 'an alias stands for what it is part of', node.start_mark
            )
        size += len(child) if isinstance(child, str) else _expanded(child, known)
        if size > YAML_EXPANDED:
            raise yaml.composer.ComposerError(
                None, None, 'too large with its aliases written out', node.start_mark
            )
    known[id(node)] = size
    return size


class _Loader(yaml.SafeLoader):
    """Refuses deep nesting, and a key that is there twice, of which the last one would count."""

    def fetch_flow_collection_start(self, *arguments: Any) -> None:
        # The scanner looks at all open brackets for each character.
        if self.flow_level >= YAML_DEPTH:
            raise yaml.scanner.ScannerError(None, None, 'nested too deeply', self.get_mark())
        super().fetch_flow_collection_start(*arguments)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'key {shown(key.value)} is there twice', key.start_mark
                    )
                seen.add(str(key.value) if isinstance(key, yaml.ScalarNode) else '')
        return super().construct_mapping(node, deep)


def open_safetensors(
    path: Path, missing: str = 'the policy directory is incomplete', framework: str = 'pt'
) -> Any:
    """
    Open a safetensors file; its tensors are read later.

    Args:
        path: of the file.
        missing: end of the message where there is no such file.
        framework: what tensors are returned as, 'pt' (torch) or 'np' (NumPy).

    Returns:
        The `safe_open` of safetensors. It has compared the sizes that the header declares with
        the size of the file, and refused tensors that overlap.

    Raises:
        UserError: the file is missing, a Git LFS pointer, truncated or of another format.
    """
    from safetensors import safe_open, SafetensorError

    if not os.path.lexists(path):
        raise UserError(f'{path}: no such file; {missing}')
    refuse_pointer(path, 'safetensors')
    try:
        return safe_open(path, framework)
    except (SafetensorError, OSError) as error:
        reason = str(error)[:200]
        raise UserError(f'{path}: truncated or not a safetensors file ({reason})') from None


def read_npz(path: Path, expected: str, limit: int = NPZ_BYTES) -> dict[str, np.ndarray]:
    """
    Read the arrays of an .npz file; pickled objects are refused.

    What each array declares is compared with what the file has before it is unpacked.

    Args:
        path: of the file.
        expected: what it should be, for messages.
        limit: largest size of all arrays together, bytes.

    Raises:
        UserError: there is no such file, or it is damaged or too large.
    """
    arrays: dict[str, np.ndarray] = {}
    with open_regular(path, expected) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if sum(member.file_size for member in members) > limit:
                    raise ValueError(f'larger than {_size(limit)} when unpacked')
                for member in members:
                    with archive.open(member) as stream:
                        arrays[member.filename.removesuffix('.npy')] = _array(
                            stream, member.file_size
                        )
        except Exception as error:  # zipfile, zlib, lzma and numpy raise many kinds
            reason = ' '.join(str(error).split())[:200] or type(error).__name__
            raise UserError(f'{path}: not readable as {expected}: {reason}') from None
    return arrays


def _array(stream: Any, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f'arrays of format {version} are not supported')
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError('it holds pickled objects, which are not loaded: they can run code')
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * max(dtype.itemsize, 1) > size:
        raise ValueError(f'an array of shape {shown(shape)} is declared, but not there')
    # A copy: an array over bytes cannot be written to.
    flat = np.frombuffer(stream.read(count * dtype.itemsize), dtype, count).copy()
    return flat.reshape(shape, order='F' if fortran else 'C')


def refuse_pointer(path: Path, expected: str = 'the file itself') -> None:
    """
    Refuse a Git LFS pointer, which is a few lines of text that stand for a large file.

    Raises:
        UserError: the file is one, the message says how to fetch the file itself; or it is no
            regular file, or cannot be read.
    """
    with open_regular(path, expected) as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise UserError(_pointer(path))


def refuse_link_out(path: Path) -> None:
    """
    Refuse a link that leads out of its folder.

    A link into the folder is allowed, and one into the `blobs` of the same model in a Hugging Face
    cache, where each file of a snapshot is such a link.

    Raises:
        UserError: the link leads elsewhere.
    """
    if not path.is_symlink():
        return
    target, folder = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    blobs = folder.parents[1] / 'blobs' if folder.parent.name == 'snapshots' else folder
    if folder not in target.parents and blobs not in target.parents:
        raise UserError(
            f'{path}: a link out of the folder, to {target}; put the file itself there'
        )


def read_shard_index(index: Path) -> dict[str, str]:
    """
    Read the index of safetensors shards, as transformers writes it.

    Returns:
        Names of tensors to names of files, each of them in the folder of the index.

    Raises:
        UserError: it is no index, or names a file elsewhere, or a link that leads elsewhere.
    """
    names = read_json(index).get('weight_map')
    if not isinstance(names, dict) or not names:
        raise UserError(f'{index}: weight_map is missing; expected tensor names to files')
    for name, file in names.items():
        if not isinstance(file, str) or file in ('', '..') or Path(file).name != file:
            raise UserError(
                f'{index}: weight_map puts {shown(name)} in {shown(file)}, expected the name of a '
                'file in the same folder'
            )
    for file in sorted(set(names.values())):
        refuse_link_out(index.with_name(file))
    return names


def exists(path: Path) -> bool:
    """Whether there is a file or folder; False also for what can be no path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, a NUL
        return False


def names_of(data: Mapping[str, Any], most: int = 10) -> str:
    """Join the keys of a mapping from a file for a message."""
    names = [key if key.isprintable() and len(key) <= 60 else shown(key) for key in sorted(data)]
    return ', '.join([*names[:most], *(['...'] if len(names) > most else [])])


def open_regular(path: Path, expected: str) -> BinaryIO:
    """
    Open a file to read a part of it; see `read_bytes`.

    Raises:
        UserError: there is no such file, it cannot be read, or is a folder, pipe or device.
    """
    return os.fdopen(_open(path, expected), 'rb')


def _open(path: Path, expected: str) -> int:
    """Open a regular file; does not wait for who writes a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; expected {expected}') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise UserError(f'{path}: cannot be read: {error}') from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f'{path}: not a file; expected {expected}')
    return handle


def _pointer(path: Path) -> str:
    return (
        f'{path}: a Git LFS pointer, not the file itself; run `git lfs pull` in its folder, '
        'or download the file again'
    )


def _size(limit: int) -> str:
    return f'{limit / MIB:g} MiB' if limit >= MIB else f'{limit // 1024} KiB'
