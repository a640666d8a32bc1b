"""Replacing files and directories atomically."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import fcntl
import os
from pathlib import Path
import re
import shutil
import tempfile

from sqap_vla_ros.errors import UserError


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
