"""Whether a policy that is loaded again is the one that was loaded first."""

from collections.abc import Iterator
import hashlib
from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.wire import info_to_wire, WorkerInfo

IDENTITY = ('checkpoint', 'recipe', 'sha256', 'weight_bits', 'activation_bits')
"""Keys of `Policy.describe` that tell one policy from another; the others tell how it runs."""
UNUSED = ('README.md', 'calibration.npz')
"""Files of a policy directory that an inference does not depend on."""
HASHED_BYTES = 2**28
"""A larger file beside the weights is none that a policy is loaded from; it is not read."""
SHOWN = 60
"""Characters of a value that are shown at most."""


class PolicyChanged(UserError):
    """The policy that was loaded again is another one; it must not run in place of the first."""


def require_same(first: WorkerInfo, again: WorkerInfo, where: str) -> None:
    """
    Compare two policies by what their columns mean, their recipe, weights and other files.

    Args:
        first: The policy that everything was configured for.
        again: The one that was loaded later.
        where: Directory of both, for the message.

    Raises:
        PolicyChanged: They are not the same; names the first difference.
    """
    changes = list(_changes(first, again))
    if not changes:
        return
    more = f' (and {len(changes) - 1} more)' if len(changes) > 1 else ''
    raise PolicyChanged(
        f'policy {where}: it was replaced after it had been loaded: {changes[0]}{more}; put the '
        'former policy back, or clean up and configure the node to use the new one'
    )


def _changes(first: WorkerInfo, again: WorkerInfo) -> Iterator[str]:
    for before, after in (
        (_flat(info_to_wire(first)['spec']), _flat(info_to_wire(again)['spec'])),
        (_identity(first), _identity(again)),
    ):
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                yield f'{key} was {before.get(key)!r:.{SHOWN}}, is {after.get(key)!r:.{SHOWN}}'
    for name in sorted(first.files.keys() | again.files.keys()):
        if first.files.get(name) != again.files.get(name):
            yield f'file {name} differs'


def _identity(info: WorkerInfo) -> dict[str, Any]:
    return {key: info.description.get(key) for key in IDENTITY}


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = list(value) if isinstance(value, tuple) else value
    return flat


def listing(directory: str | Path) -> dict[str, tuple[int, ...]]:
    """
    Tell the files of a policy directory apart without reading them.

    Two equal listings, taken before and after the files are read, mean that all of them are of
    the same policy.

    Returns:
        File name to device, number, size and times of its content; empty without a directory.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path in _used(directory):
        try:
            state = path.stat()
        except OSError:  # a link to nothing, or gone in this moment
            continue
        found[path.name] = (
            state.st_dev,
            state.st_ino,
            state.st_size,
            state.st_mtime_ns,
            state.st_ctime_ns,
        )
    return found


def digests(directory: str | Path) -> dict[str, str]:
    """
    Hash the files of a policy directory except its weights.

    Loading the weights hashes them: `sha256` of `Policy.describe`. It is the hash of the file, or
    of the index of its shards, which contains that of all tensors.

    Returns:
        File name to SHA-256, hexadecimal.
    """
    found = {}
    for path in _used(directory):
        if path.suffix == '.safetensors':
            continue
        try:
            if path.stat().st_size > HASHED_BYTES:
                continue
            with open(path, 'rb') as file:
                digest = hashlib.sha256()
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise UserError(f'{path}: cannot be read: {error.strerror}') from None
        found[path.name] = digest.hexdigest()
    return found


def content_sha256(weights_sha256: str, files: dict[str, str]) -> str:
    """Return one hash for all that a policy consists of."""
    lines = [weights_sha256, *(f'{name} {files[name]}' for name in sorted(files))]
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def _used(directory: str | Path) -> list[Path]:
    try:
        return [
            path
            for path in sorted(Path(directory).iterdir())
            if path.is_file() and not path.name.startswith('.') and path.name not in UNUSED
        ]
    except OSError:
        return []
