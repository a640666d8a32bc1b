"""Reading files, and replacing files and folders whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
import tempfile

from sqap_vla_ros.errors import UserError


def read_json(path: Path) -> dict:
    """
    Read a JSON object.

    Raises:
        UserError: the file is missing, is no JSON or holds something else than an object.
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
    Yield a temporary file to write; it takes the place of `path` when the block ends well.

    The temporary file is in the folder of `path` and is on disk before it is renamed. When the
    block raises, it is removed and `path` stays as it was.
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
    Yield a temporary directory to fill; it takes the place of `path` when the block ends well.

    When the block raises, the temporary directory is removed and `path` stays as it was. The
    caller decides before whether `path` may be replaced: whatever it holds is deleted.
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
