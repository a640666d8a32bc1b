"""Reading JSON and safetensors files, and replacing files and directories atomically."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import fcntl
import json
import os
from pathlib import Path
import re
import shutil
import tempfile
from typing import Any

from sqap_vla_ros.errors import UserError

JSON_BYTES = 2**26
"""A larger JSON file is refused; OpenVLA's, with the statistics of all datasets, has 1 MB."""
_POINTER = b'version https://git-lfs.github.com/spec/'


def refuse_pointer(path: Path) -> None:
    """
    Refuse a Git LFS pointer: a few lines of text that stand for a large file.

    Raises:
        UserError: the file is one; the message says how to fetch the file itself.
    """
    try:
        with open(path, 'rb') as file:
            begin = file.read(len(_POINTER))
    except OSError:
        return  # told by whoever reads the file
    if begin == _POINTER:
        raise UserError(
            f'{path}: a Git LFS pointer, not the file itself; run `git lfs pull` in its folder, '
            'or download the file again'
        )


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises:
        UserError: the file is missing or larger than `JSON_BYTES`, is not JSON, names a key
            twice, is nested too deeply, or holds something other than an object.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f'{path}: not a file; expected a JSON object')
    refuse_pointer(path)
    try:
        if path.stat().st_size > JSON_BYTES:
            raise UserError(
                f'{path}: {path.stat().st_size >> 20} MiB, expected a JSON file of at most '
                f'{JSON_BYTES >> 20}'
            )
        data = json.loads(path.read_text('utf-8-sig'), object_pairs_hook=_unique)
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; expected a policy directory with it') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise UserError(f'{path}: not readable as JSON: {reason}') from None
    if not isinstance(data, dict):
        raise UserError(f'{path}: expected a JSON object')
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'key {twice!r} is there twice')
    return found


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
        The `safe_open` of safetensors.

    Raises:
        UserError: the file is missing, a Git LFS pointer, truncated or of another format.
    """
    from safetensors import safe_open, SafetensorError

    if path.exists() and not path.is_file():
        raise UserError(f'{path}: not a file; expected safetensors')
    refuse_pointer(path)
    try:
        return safe_open(path, framework)
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; {missing}') from None
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path}: truncated or not a safetensors file ({error})') from None


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """
    Yield a temporary file to write, which replaces `path` when the block succeeds.

    The temporary file is in the directory of `path`, and is synced to disk before it is renamed.
    When the block raises, it is removed and `path` stays as it was.

    Args:
        path: file to create or replace; its directory must exist.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    os.close(handle)
    try:
        yield Path(name)
        with open(name, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """
    Yield a temporary directory to fill, which replaces `path` when the block succeeds.

    When the block raises, the temporary directory is removed and `path` stays as it was. What a
    process that was killed has left beside `path` is removed first; where it was killed between
    two renames, the former directory comes back.

    Args:
        path: directory to create or replace, or a link to one. Everything in it is deleted: check
            first that it may be.

    Raises:
        UserError: the file system does not allow it, for example because the disk is full.
    """
    path = Path(os.path.realpath(path))
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):  # nobody takes for abandoned what is not locked yet
            _remove_abandoned(path)
            partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
            lock = _lock(partial)
        try:
            yield partial
            os.chmod(partial, 0o755)
            with _locked(path.parent):
                if path.exists():
                    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.old.'))
                    os.rename(path, old / path.name)
                    os.rename(partial, path)
                    shutil.rmtree(old)
                else:
                    os.rename(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                os.close(lock)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except OSError as error:
        file = str(error.filename or '')
        other = f' ({file})' if file and f'.{path.name}.' not in file else ''
        raise UserError(f'{path}: not written: {error.strerror or error}{other}') from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = _lock(folder, wait=True)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Lock a folder until the handle is closed, or the process ends; None: it is locked."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return handle
    except OSError:  # another process has it, or the file system knows no locks
        os.close(handle)
        return None


def _remove_abandoned(path: Path) -> None:
    pattern = re.compile(rf'\.{re.escape(path.name)}\.(old\.)?[a-z0-9_]{{8}}')
    for folder in path.parent.iterdir():
        if not pattern.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError):
            lock = _lock(folder)
            if lock is None:
                continue
            former = folder / path.name
            if '.old.' in folder.name and former.is_dir() and not path.exists():
                os.rename(former, path)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
