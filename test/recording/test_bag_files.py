"""Bags as people have them: each that cannot be read is one line that says what to do."""

import struct

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import zstd

from sqap_vla_ros.errors import LONGEST, UserError
from sqap_vla_ros.recording import bag_files
from sqap_vla_ros.recording.bag_files import check_chunks, find_bag, MAGIC
from sqap_vla_ros.recording.bag_reader import read_bag
from sqap_vla_ros.recording.message_types import typestore


def write(path, topics=('/camera/image_raw',), plugin=StoragePlugin.MCAP, mode=None):
    store, kind = typestore(), 'std_msgs/msg/String'
    writer = Writer(path, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        for topic in topics:
            connection = writer.add_connection(topic, kind, typestore=store)
            message = store.types[kind]('x' * 500)
            writer.write(connection, 1, store.serialize_cdr(message, kind))
    return path


def refusal(call, path):
    with pytest.raises(UserError) as caught:
        call(path)
    message = str(caught.value)
    assert '\n' not in message and len(message) < LONGEST
    return message


def without_metadata(path):
    (path / 'metadata.yaml').unlink()
    return path


def cut(path):
    file = path / f'{path.name}.mcap'
    file.write_bytes(file.read_bytes()[:-20])
    return path


def a_file(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda p: without_metadata(write(p)), '`ros2 bag reindex'),
        (lambda p: without_metadata(cut(write(p))), '`mcap recover'),
        (lambda p: cut(write(p)), '`mcap recover'),
        (lambda p: cut(write(p)) / 'bag.mcap', '`mcap recover'),
        (lambda p: a_file(p, b'#ROSBAG V2.0\n'), '`rosbags-convert'),
        (lambda p: a_file(p.with_suffix('.bag'), b'anything'), '`rosbags-convert'),
        (lambda p: a_file(p, bag_files.ZSTD_MAGIC + bytes(20)), '`zstd -d'),
        (lambda p: a_file(p, b''), 'empty'),
        (lambda p: a_file(p, b'version https://git-lfs.github.com/spec/v1\n'), 'git lfs pull'),
        (lambda p: a_file(p, bytes(100)), 'neither an MCAP file'),
        (lambda p: p.parent, 'expected the folder of a bag'),
        (lambda p: p, 'no such file or folder'),
    ],
)
def test_what_is_no_whole_bag_says_what_to_do(tmp_path, make, words):
    assert words in refusal(find_bag, make(tmp_path / 'bag'))


def test_ros1_bag_in_a_folder(tmp_path):
    a_file(tmp_path / 'x.bag', b'#ROSBAG V2.0\n')
    assert 'rosbags-convert' in refusal(find_bag, tmp_path)


@pytest.mark.parametrize('mode', CompressionMode)
def test_compressed_bags_are_recognised_before_they_are_unpacked(tmp_path, mode):
    if mode is CompressionMode.NONE:
        return
    plugin = StoragePlugin.MCAP if mode is CompressionMode.STORAGE else StoragePlugin.SQLITE3
    bag = find_bag(write(tmp_path / 'bag', plugin=plugin, mode=mode))
    assert bag.packed or mode is CompressionMode.STORAGE
    if mode is CompressionMode.STORAGE:
        check_chunks(bag.files[0])


def mcap(path, name, content, declared):
    chunk = struct.pack('<QQQI', 0, 0, declared, 0) + struct.pack('<I', len(name)) + name
    chunk += struct.pack('<Q', len(content)) + content
    path.write_bytes(MAGIC + b'\6' + struct.pack('<Q', len(chunk)) + chunk + MAGIC)
    return path


@pytest.mark.parametrize('declared', [10, 2**40])
def test_a_chunk_that_grows_without_end_is_refused_before_it_is_unpacked(tmp_path, declared):
    bomb = zstd.compress(bytes(64 * 2**20))
    message = refusal(check_chunks, mcap(tmp_path / 'x.mcap', b'zstd', bomb, declared))
    assert f'{declared} bytes' in message


def test_a_replay_of_another_bag_lists_its_topics(tmp_path):
    topics = [f'/t{i}' for i in range(100, 140)] + ['/a\n\x1b[2J']
    message = refusal(read_bag, write(tmp_path / 'bag', topics))
    assert 'it has no observation/request' in message and 'bag_player_node' in message
    assert '/t100 (std_msgs/msg/String, 1)' in message and 'and 29 more' in message
    assert '\x1b' not in message


def test_messages_of_metadata_are_counted_as_they_are(tmp_path):
    bag = find_bag(write(tmp_path / 'bag', ('/b', '/a')))
    assert [str(topic) for topic in bag.topics] == [
        '/b (std_msgs/msg/String, 1)',
        '/a (std_msgs/msg/String, 1)',
    ]
    assert bag.size == np.sum([file.stat().st_size for file in bag.files])
