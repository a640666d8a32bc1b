"""Files that come from others are read with care; what is written appears whole or not at all."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

from sqap_vla_ros import files
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import open_safetensors, read_json, replaced_directory


@pytest.mark.parametrize(
    'content, words',
    [
        (b'', 'not readable as JSON'),
        (b'\xff\xfe{}', 'not readable as JSON'),
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


def test_json_of_another_kind_of_file_is_refused_without_reading_it(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / 'pipe.json')
    (tmp_path / 'folder.json').mkdir()
    for name in ('pipe.json', 'folder.json'):
        with pytest.raises(UserError, match='not a file'):
            read_json(tmp_path / name)
    monkeypatch.setattr(files, 'JSON_BYTES', 10)
    (tmp_path / 'long.json').write_text(json.dumps({'a': 'b' * 10}))
    with pytest.raises(UserError, match='at most'):
        read_json(tmp_path / 'long.json')


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


KILLED = """
import os, sys
from pathlib import Path
from sqap_vla_ros import files
output = Path(sys.argv[1])
if sys.argv[2] == 'between':
    def rename(source, target, real=os.rename):
        if Path(target) == output:
            os.kill(os.getpid(), 9)
        real(source, target)
    os.rename = rename
with files.replaced_directory(output) as partial:
    (partial / 'weights').write_text('new')
    if sys.argv[2] == 'within':
        os.kill(os.getpid(), 9)
"""


def kill(output: Path, when: str) -> None:
    """Replace a directory in a process that is killed: 'within' the block or 'between' renames."""
    done = subprocess.run([sys.executable, '-c', KILLED, str(output), when], check=False)
    assert done.returncode == -9


def test_leftovers_of_a_killed_process_are_removed_by_the_next(tmp_path):
    other = tmp_path / '.policy.notes'
    other.mkdir()
    kill(tmp_path / 'policy', 'within')
    assert len(list(tmp_path.iterdir())) == 2
    with replaced_directory(tmp_path / 'policy') as partial:
        (partial / 'weights').write_text('ours')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.policy.notes', 'policy']


def test_directory_comes_back_that_a_killed_process_had_moved_away(tmp_path):
    output = tmp_path / 'policy'
    with replaced_directory(output) as partial:
        (partial / 'weights').write_text('first')
    kill(output, 'between')
    assert not output.exists()
    with pytest.raises(RuntimeError), replaced_directory(output):
        raise RuntimeError('this one fails too')
    assert (output / 'weights').read_text() == 'first'
    assert [p.name for p in tmp_path.iterdir()] == ['policy']


def test_a_process_at_work_is_left_alone(tmp_path):
    with replaced_directory(tmp_path / 'policy') as first:
        (first / 'weights').write_text('first')
        with replaced_directory(tmp_path / 'policy') as second:
            (second / 'weights').write_text('second')
        assert (tmp_path / 'policy' / 'weights').read_text() == 'second'
    assert (tmp_path / 'policy' / 'weights').read_text() == 'first'
    assert [p.name for p in tmp_path.iterdir()] == ['policy']


def test_a_link_is_followed(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'disk' / 'policy')
    with replaced_directory(tmp_path / 'link') as partial:
        (partial / 'weights').touch()
    assert (tmp_path / 'disk' / 'policy' / 'weights').exists() and (tmp_path / 'link').is_symlink()


def test_what_the_file_system_refuses_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with (
        pytest.raises(UserError, match='policy: not written: '),
        replaced_directory(tmp_path / 'file' / 'policy'),
    ):
        pass
    with (
        pytest.raises(UserError, match='not written: no space'),
        replaced_directory(tmp_path / 'p'),
    ):
        raise OSError('no space left')
    assert [p.name for p in tmp_path.iterdir()] == ['file']
