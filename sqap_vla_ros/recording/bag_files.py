"""
What lies on the disk as a bag, looked at before a reader opens it.

The readers of rosbags trust a bag: they unpack what it has compressed, wherever that ends, and
tell of a bag without its end what their parser has met. Here each kind of bag that cannot be read
is one line that says how to get one that can.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import struct
from typing import Any, BinaryIO

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import open_regular, read_yaml, refuse_link_out, refuse_pointer

METADATA = 'metadata.yaml'
MOST_FILES = 1000
MAGIC = b'\x89MCAP0\r\n'
ROS1_MAGIC, ZSTD_MAGIC = b'#ROSBAG V', b'\x28\xb5\x2f\xfd'
CHUNK_RECORD = 6
MOST_CHUNK_BYTES = 2**28
"""Of a chunk of an MCAP file, unpacked; writers make chunks of 1 to 8 MB."""
LZ4_GROWTH = 255
"""How many times its size the content of an lz4 frame can be."""
SHOWN_TOPICS = 12
CONVERT = 'convert it with `ros2 bag convert`'
_SUFFIXES = ('.mcap', '.db3')


@dataclass(frozen=True)
class Topic:
    """A topic of a bag."""

    name: str
    kind: str
    """Type of its messages."""
    count: int

    def __str__(self) -> str:
        return f'{self.name[:80]} ({self.kind[:60]}, {self.count})'


@dataclass(frozen=True)
class BagFiles:
    """A bag that seems whole."""

    files: tuple[Path, ...]
    topics: tuple[Topic, ...]
    """As its metadata say; none of a single file."""
    storage: str
    """'mcap' or 'sqlite3'."""
    packed: str
    """How its files or messages are compressed; '' where they are not."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)


def find_bag(path: Path) -> BagFiles:
    """
    Look at a bag, without reading its messages.

    Args:
        path: folder of a bag with its metadata, or a file .mcap or .db3.

    Raises:
        UserError: it is no bag of ROS 2, or not a whole one; says what to do.
    """
    if path.is_dir():
        return _from_metadata(path)
    if not os.path.lexists(path):
        raise UserError(f'bag {path}: no such file or folder; expected the folder of a bag')
    storage = _check_file(path, path)
    return BagFiles((path,), (), storage, '')


def _from_metadata(path: Path) -> BagFiles:
    if not os.path.lexists(path / METADATA):
        raise UserError(_without_metadata(path))
    try:
        data = read_yaml(path / METADATA, 'the metadata of a bag')
        found = data['rosbag2_bagfile_information']
        names, storage = found['relative_file_paths'], found['storage_identifier']
        packed = found.get('compression_format') or found.get('compression_mode', '').lower()
        topics = _topics(found.get('topics_with_message_count') or [])
    except UserError as error:
        raise UserError(f'bag {error}') from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise UserError(f'bag {path}: {METADATA} is not that of a bag') from None
    if storage not in ('mcap', 'sqlite3') or not isinstance(packed, str):
        raise UserError(
            f'bag {path}: storage {shown(storage)}, compression {shown(packed)}; expected mcap or '
            'sqlite3'
        )
    if not isinstance(names, list) or not 0 < len(names) <= MOST_FILES:
        raise UserError(f'bag {path}: relative_file_paths is {shown(names)}, expected file names')
    packed = '' if packed == 'none' else packed
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise UserError(
                f'bag {path}: names the file {shown(name)}, expected one in the same folder'
            )
        refuse_link_out(path / name)
        if not packed:
            _check_file(path, path / name)
    return BagFiles(tuple(path / name for name in names), topics, storage, packed)


def _topics(listed: Any) -> tuple[Topic, ...]:
    return tuple(
        Topic(
            str(entry['topic_metadata']['name']),
            str(entry['topic_metadata']['type']),
            int(entry['message_count']),
        )
        for entry in listed
    )


def _without_metadata(path: Path) -> str:
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if files:
        cut = [file for file in files if file.suffix == '.mcap' and not _has_end(file)]
        if cut:
            return f'bag {path}: no {METADATA}, and {_cut_off(cut[0])}'
        return (
            f'bag {path}: no {METADATA}, as a recorder leaves it that was killed; make it with '
            f'`ros2 bag reindex {path}`'
        )
    if list(path.glob('*.bag')):
        return f'bag {path}: {_ros1(next(iter(sorted(path.glob("*.bag")))))}'
    return f'bag {path}: no {METADATA} and no file .mcap or .db3; expected the folder of a bag'


def _check_file(bag: Path, path: Path) -> str:
    """Refuse a file that is no whole file of a bag; returns its storage."""
    try:
        with open_regular(path, 'a file of a bag') as file:
            head = file.read(16)
    except UserError as error:
        raise UserError(f'bag {error}') from None
    refuse_pointer(path)
    if not head:
        raise UserError(f'bag {path}: the file is empty: its recorder was killed; record it again')
    if head.startswith(MAGIC):
        if not _has_end(path):
            raise UserError(f'bag {bag}: {_cut_off(path)}')
        return 'mcap'
    if head.startswith(b'SQLite format 3\0'):
        return 'sqlite3'
    if head.startswith(ROS1_MAGIC) or path.suffix == '.bag':
        raise UserError(f'bag {bag}: {_ros1(path)}')
    if head.startswith(ZSTD_MAGIC):
        raise UserError(f'bag {bag}: {path.name} is compressed; unpack it with `zstd -d {path}`')
    raise UserError(f'bag {bag}: {path.name} is neither an MCAP file nor one of SQLite (.db3)')


def _has_end(path: Path) -> bool:
    with open_regular(path, 'a file of a bag') as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - len(MAGIC), 0))
        return size > len(MAGIC) and file.read() == MAGIC


def _cut_off(path: Path) -> str:
    return (
        f'{path.name} is cut off, as a recorder leaves it that was killed; restore it with '
        f'`mcap recover {path} -o {path.stem}_whole.mcap` (mcap.dev), and read that file'
    )


def _ros1(path: Path) -> str:
    return (
        f'{path.name} is a bag of ROS 1; convert it with '
        f'`rosbags-convert --src {path} --dst {path.with_suffix("")}`'
    )


def describe_topics(topics: Sequence[Topic]) -> str:
    """List the topics of a bag with their types and counts, for a message."""
    return describe_names(map(str, topics)) if topics else 'no topics'


def describe_names(names: Iterable[str]) -> str:
    """List names, sorted, and cut where there are many."""
    listed = sorted(names)
    more = len(listed) - SHOWN_TOPICS
    return (', '.join(listed[:SHOWN_TOPICS]) or 'none') + (f' and {more} more' * (more > 0))


def compressed_chunks(file: BinaryIO) -> Iterator[tuple[str, int, bytes]]:
    """
    Walk the records of an MCAP file, and yield its compressed chunks.

    See https://mcap.dev/spec: each record is an opcode, its length and its content; that of a
    chunk begins with two times, the size of its content, a checksum and the name of the
    compression.

    Yields:
        Compression, declared size of the content, and the compressed content.
    """
    file.seek(len(MAGIC))
    size = os.fstat(file.fileno()).st_size
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack('<BQ', head)
        end = file.tell() + length
        if end > size:
            return  # told by the reader
        if opcode == CHUNK_RECORD and length >= 32:
            _, declared, _, letters = struct.unpack('<16sQII', file.read(32))
            if letters:
                name = file.read(min(letters, 16)).decode('utf-8', 'replace')
                content = file.read(min(max(length - 40 - letters, 0), MOST_CHUNK_BYTES) + 8)
                yield name, declared, content[8:]
        file.seek(end)


def check_chunks(path: Path) -> None:
    """
    Refuse an MCAP file with a chunk that takes too much memory when it is unpacked.

    A reader unpacks a chunk whatever its size, so that one whose size is not known is unpacked
    here in pieces first, which are not kept.

    Raises:
        UserError: names the file and what is wrong.
    """
    from lz4.frame import LZ4FrameDecompressor
    from rosbags.rosbag2.storage_mcap import zstd

    makers: dict[str, Callable[[], Any]] = {
        'lz4': LZ4FrameDecompressor,
        'zstd': zstd.ZstdDecompressor,
    }
    with open_regular(path, 'a file of a bag') as file:
        for name, declared, content in compressed_chunks(file):
            if name not in makers:
                raise UserError(f'bag {path}: compression {shown(name)}; {CONVERT}')
            if declared > MOST_CHUNK_BYTES or len(content) > MOST_CHUNK_BYTES:
                raise UserError(
                    f'bag {path}: a chunk of {declared} bytes, expected at most '
                    f'{MOST_CHUNK_BYTES}; {CONVERT}'
                )
            if name == 'lz4' and len(content) * LZ4_GROWTH <= MOST_CHUNK_BYTES:
                continue
            if _unpacked_bytes(makers[name](), content, declared) > declared:
                raise UserError(f'bag {path}: a chunk is larger than the {declared} bytes it says')


def _unpacked_bytes(decompressor: Any, content: bytes, most: int) -> int:
    """Count the bytes of a compressed chunk, until they are more than `most`."""
    count, piece = 0, content
    try:
        while not decompressor.eof and count <= most:
            made = decompressor.decompress(piece, max_length=2**20)
            if not made and not piece:
                break
            count, piece = count + len(made), b''
    except Exception:  # damaged: the reader says so
        return 0
    return count


@contextmanager
def told_as_bag(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises of a damaged bag into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # rosbags raises whatever its parsers do
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f'{reason} is missing'
        raise UserError(f'bag {path}: damaged: {reason}') from None
