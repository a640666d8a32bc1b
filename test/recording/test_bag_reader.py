"""Bags of others: damaged, hand-made or hostile ones are refused in one line, unread."""

import json
import os
import random
import struct

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.errors import LONGEST, UserError
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.recording import bag_files, bag_reader, bag_writer
from sqap_vla_ros.recording.bag_reader import read_bag
from sqap_vla_ros.recording.bag_writer import write_bag
from sqap_vla_ros.recording.entries import Answered, Changed, Commanded, Observed

ACTION = ActionSpec(('linear.x', 'gripper'), ('m/s', '1'), 0.05, 4)


def entries():
    seen = Observation(
        {'camera': np.zeros((4, 4, 3), np.uint8)},
        'go',
        np.zeros(2, np.float32),
        {},
        np.zeros(3),
        5,
    )
    chunk = ActionChunk(np.zeros((4, 2), np.float32), ACTION, 5)
    return [
        (1, Observed(seen, 0, 0, 1.0)),
        (2, Answered(chunk, {'total': 1.0}, 0.1, 4, 4)),
        (3, Commanded(np.zeros(3), np.zeros(3), gripper=0.5)),
        (4, Changed('HOLDING: x')),
    ]


@pytest.fixture
def bag(tmp_path):
    write_bag(tmp_path / 'bag', entries())
    return tmp_path / 'bag'


def refusal(bag):
    with pytest.raises(UserError) as caught:
        read_bag(bag)
    message = str(caught.value)
    assert '\n' not in message and len(message) < LONGEST
    return message


@pytest.mark.parametrize(
    'old, new',
    [
        ('bag.mcap', '../../etc/passwd'),
        ('bag.mcap', '/dev/zero'),
        ('bag.mcap', '.'),
        ('bag.mcap', ''),
        ('bag.mcap', 'metadata.yaml'),
        ('version: 9', 'version: 99999999999'),
        ('version: 9', 'version: x'),
        ("compression_format: ''", 'compression_format: zstd'),
        ("compression_mode: ''", 'compression_mode: FILE'),
        ('storage_identifier: mcap', 'storage_identifier: sqlite3'),
        ('storage_identifier: mcap', 'storage_identifier: [mcap]'),
        (None, ''),
        (None, '\0'),
        (None, '[' * 20_000),
        (None, 'rosbag2_bagfile_information: 3'),
        (None, 'rosbag2_bagfile_information: &a {relative_file_paths: *a}'),
        (None, 'a: !!python/object/apply:os.getcwd []'),
    ],
)
def test_metadata_that_is_not_the_black_boxs(bag, old, new):
    text = (bag / 'metadata.yaml').read_text()
    assert old is None or old in text, text
    (bag / 'metadata.yaml').write_text(new if old is None else text.replace(old, new))
    assert refusal(bag).startswith(f'bag {bag}')


def test_files_that_are_links_or_no_files(bag):
    (bag / 'bag.mcap').unlink()
    assert 'no such file' in refusal(bag)
    (bag / 'bag.mcap').symlink_to('/etc/passwd')
    assert 'a link out of the folder' in refusal(bag)
    (bag / 'bag.mcap').unlink()
    os.mkfifo(bag / 'bag.mcap')
    assert 'not a file' in refusal(bag)
    assert 'not a file' in refusal(bag / 'bag.mcap')
    (bag / 'bag.mcap').unlink()
    (bag / 'metadata.yaml').unlink()
    assert 'no metadata.yaml and no file' in refusal(bag)
    assert 'no such file' in refusal(bag / 'bag.mcap')


@pytest.mark.parametrize(
    'change',
    [
        {'images': None},
        {'images': ['nobody']},
        {'images': [[]]},
        {'cameras': 3},
        {'cameras': {'camera': {}}},
        {
            'cameras': {
                'camera': {'intrinsics': 'x', 'optical_from_base': [], 'width': 1, 'height': 1}
            }
        },
        {'since_reset': 'x'},
        {'since_reset': -1},
        {'since_reset': True},
        {'generation': 0.5},
        {'stamp_ns': 2**70},
        {'budget': float('nan')},
        {'instruction': 3},
        {'kept': None},
        {'kept': {}},
        {'kept': {'camera': {}}},
        {'kept': {'camera': {'exact': 1, 'checksum': 0, 'color_order': None, 'max_pixels': 9}}},
        {'kept': {'camera': {'exact': True, 'checksum': 0, 'color_order': [], 'max_pixels': 9}}},
        '3',
        'null',
        '',
        '[' * 100_000,
    ],
)
def test_requests_of_other_types(tmp_path, monkeypatch, change):
    write = bag_writer._text

    def text(store, topic, old):
        if topic == bag_writer.REQUEST:
            old = change if isinstance(change, str) else json.dumps(json.loads(old) | change)
        return write(store, topic, old)

    monkeypatch.setattr(bag_writer, '_text', text)
    write_bag(tmp_path / 'bag', entries())
    refusal(tmp_path / 'bag')


def test_damage_anywhere_is_one_line_or_harmless(bag):
    whole, chance = (bag / 'bag.mcap').read_bytes(), random.Random(0)
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        kind = chance.random()
        if kind < 0.2:
            data = data[: chance.randrange(len(data))]
        elif kind < 0.7:
            for _ in range(chance.choice((1, 2, 8))):
                data[chance.randrange(len(data))] = chance.randrange(256)
        else:
            at = chance.randrange(len(data) - 8)
            data[at : at + 8] = struct.pack('<Q', chance.choice((0, 2**31, 2**63, 2**64 - 1)))
        (bag / 'bag.mcap').write_bytes(data)
        try:
            read_bag(bag)
        except UserError as error:
            assert '\n' not in str(error)
            refused += 1
    assert refused > 25


def record(opcode, content):
    return bytes([opcode]) + struct.pack('<Q', len(content)) + content


def text(words):
    return struct.pack('<I', len(words)) + words.encode()


@pytest.mark.parametrize('kind', ['lz4', 'zstd', 'unknown'])
def test_compressed_chunk_is_refused_before_it_is_unpacked(bag, kind):
    chunk = struct.pack('<QQQI', 0, 0, 2**40, 0) + text(kind) + struct.pack('<Q', 4) + bytes(4)
    magic = bag_files.MAGIC
    (bag / 'bag.mcap').write_bytes(
        magic
        + record(1, text('ros2') + text('x'))
        + record(6, chunk)
        + record(2, bytes(20))
        + magic
    )
    assert 'it is compressed' in refusal(bag)


def test_bag_larger_than_any_black_box_is_refused_unread(bag, monkeypatch):
    monkeypatch.setattr(bag_reader, 'MOST_BYTES', 100)
    assert 'larger than' in refusal(bag)
