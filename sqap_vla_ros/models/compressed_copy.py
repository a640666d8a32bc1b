"""Compressed copies of float policies, kept by the content of policy and recipe."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
import fcntl
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import time

from sqap_vla_ros import compression
from sqap_vla_ros.compression.checkpoint import (
    file_sha256,
    FORMAT_VERSION,
    read_header,
    WEIGHTS_FILE,
)
from sqap_vla_ros.compression.recipe import Recipe
from sqap_vla_ros.compression.recipe_files import load_recipe, recipe_to_dict
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.calibration_samples import CALIBRATION_FILE
from sqap_vla_ros.models.compress_policy import compress
from sqap_vla_ros.models.loading import is_compressed
from sqap_vla_ros.models.policy_files import content_sha256, digests, listing
from sqap_vla_ros.resources import ros_home

FOLDER = Path('sqap_vla_ros', 'policies')
"""Of the copies, in the directory of what ROS programs write."""
PROGRESS_S = 5.0
"""Time between two lines about the layers that have been compressed."""
Tell = Callable[[str], None]
"""Called with what is being done, one line."""


def compressed_copy(source: str | Path, recipe: str, tell: Tell) -> Path:
    """
    Find the compressed copy of a float policy, or make it.

    The name of its directory ends with a hash over the files of the policy, the recipe and the
    code that compresses. Of several processes that want the same copy at once, one makes it
    and the others wait.

    Args:
        source: directory of the policy.
        recipe: a name or a file, see `load_recipe`.
        tell: called with what is being done.

    Returns:
        The directory of the copy; `source` itself where it is compressed already.

    Raises:
        UserError: the policy or the recipe cannot be used, the policy changes meanwhile, or the
            copy cannot be written.
    """
    source = Path(source)
    if is_compressed(source):
        used = read_header(source).recipe
        if used != load_recipe(recipe):
            tell(f'policy {source} is compressed already, with {used.name}; {recipe} is not used')
        return source
    loaded = load_recipe(recipe)
    if not source.is_dir():
        raise UserError(
            f'policy {source}: no such directory; expected a policy directory with config.json '
            'and model.safetensors'
        )
    before = listing(source), _samples_listing(source)
    tell(f'reading policy {source}')
    name = f'{_plain(source.resolve().name)}-{_plain(loaded.name)}-{_key(source, loaded)[:16]}'
    folder = ros_home() / FOLDER
    copy = folder / name
    with _one_at_a_time(folder, name, tell):
        if _whole(copy):
            tell(f'policy {source}: compressed with {loaded.name} before, in {copy}')
            return copy
        tell(f'compressing policy {source} with {loaded.name}, into {copy}')
        partial = folder / f'.{name}'
        try:
            compress(source, partial, loaded, lambda layers: _told(layers, tell))
        finally:  # an error may come of the change, and name something else
            if (listing(source), _samples_listing(source)) != before:
                raise UserError(
                    f'policy {source}: its files changed while they were compressed; try again '
                    'when they are complete'
                ) from None
        if copy.exists():  # damaged
            shutil.rmtree(copy)
        os.rename(partial, copy)
    return copy


def _key(source: Path, recipe: Recipe) -> str:
    """Hash everything that the compressed policy depends on."""
    files = digests(source)
    samples = source / CALIBRATION_FILE
    if samples.exists():
        files[CALIBRATION_FILE] = file_sha256(samples)
    content = content_sha256(file_sha256(source / WEIGHTS_FILE), files)
    text = json.dumps([content, recipe_to_dict(recipe), _code(), FORMAT_VERSION], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _code() -> str:
    """Hash the modules that compress: another version of them may compress otherwise."""
    digest = hashlib.sha256()
    for path in sorted(Path(compression.__file__).parent.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _samples_listing(source: Path) -> tuple[int, ...] | None:
    try:
        state = (source / CALIBRATION_FILE).stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _plain(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_.]', '_', name)[:40]


def _whole(copy: Path) -> bool:
    """Whether a copy is there; one whose header is damaged is made again."""
    try:
        read_header(copy)
        return is_compressed(copy)
    except UserError:
        return False


def _told(layers: Iterable[str], tell: Tell) -> Iterator[str]:
    names, told_s = list(layers), time.monotonic()
    for index, layer in enumerate(names):
        if time.monotonic() - told_s > PROGRESS_S:
            told_s = time.monotonic()
            tell(f'compressed {index} of {len(names)} layers')
        yield layer


@contextmanager
def _one_at_a_time(folder: Path, name: str, tell: Tell) -> Iterator[None]:
    """Wait until no other process has this lock, which ends with its process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / f'.{name}.lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(
            f'{folder}: compressed policies cannot be written here: {error.strerror}; set '
            'ROS_HOME to another directory, or compress with `sqap_vla compress`'
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f'another process compresses the same policy into {folder / name}; waiting')
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        with suppress(OSError):
            os.close(handle)
