"""Reading JSON files, and replacing files and directories atomically."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

from sqap_vla_ros.errors import UserError


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises:
        UserError: the file is missing, is not JSON, or holds something other than an object.
    """
    try:
        data = json.loads(Path(path).read_text('utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; expected a policy directory with it') from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from None
    if not isinstance(data, dict):
        raise UserError(f'{path}: expected a JSON object')
    return data


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

    When the block raises, the temporary directory is removed and `path` stays as it was.

    Args:
        path: directory to create or replace. Everything in it is deleted: check first that it
            may be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
    try:
        yield partial
        os.chmod(partial, 0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
            os.rename(path, old / path.name)
            os.rename(partial, path)
            shutil.rmtree(old)
        else:
            os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
