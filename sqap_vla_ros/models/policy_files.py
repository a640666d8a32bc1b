"""The files of a policy directory, told apart by their content."""

import hashlib
from pathlib import Path

from sqap_vla_ros.errors import UserError

UNUSED = ('README.md', 'calibration.npz')
"""Files of a policy directory that an inference does not depend on."""
HASHED_BYTES = 2**28
"""A larger file beside the weights is none that a policy is loaded from; it is not read."""


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
