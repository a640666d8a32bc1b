"""Files that come from others are read with care: bounded, and with one line for what is wrong."""

import json
import os

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import open_safetensors, read_json


@pytest.mark.parametrize(
    'content, words',
    [
        (b'', 'not readable as JSON'),
        (b'\xff\xfe{}', 'not text in UTF-8'),
        (b'[1]', 'expected a JSON object'),
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a' is there twice"),
        (b'{"a": {"b": 1, "b": 2}}', "key 'b' is there twice"),
        (b'{"a": ' + b'[' * 100000 + b']' * 100000 + b'}', 'nested too deeply'),
        (b'{"a": ' + b'9' * 5000 + b'}', 'not readable as JSON'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', 'git lfs pull'),
    ],
)
def test_odd_json_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / 'config.json'
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / 'a.json') == {'a': 1}


def test_json_of_another_kind_of_file_is_refused_without_reading_it(tmp_path):
    os.mkfifo(tmp_path / 'pipe.json')
    (tmp_path / 'folder.json').mkdir()
    for name in ('pipe.json', 'folder.json'):
        with pytest.raises(UserError, match='not a file'):
            read_json(tmp_path / name)
    (tmp_path / 'long.json').write_text(json.dumps({'a': 'b' * 10}))
    with pytest.raises(UserError, match='larger than'):
        read_json(tmp_path / 'long.json', 10)


def test_weights_that_are_no_weights_are_refused(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'pointer').write_text('version https://git-lfs.github.com/spec/v1\n')
    (tmp_path / 'short').write_bytes(b'{}')
    for name, words in (
        ('pipe', 'not a file'),
        ('pointer', 'git lfs pull'),
        ('short', 'truncated'),
        ('none', 'no such file; the index names it'),
    ):
        with pytest.raises(UserError, match=words):
            open_safetensors(tmp_path / name, 'the index names it')


def test_messages_stay_one_line_whatever_a_file_names():
    assert str(UserError('tensor a\nb\x1b[2J\ud800')) == r'tensor a\nb\x1b[2J\ud800'
