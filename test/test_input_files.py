"""Files that come from others are read with care: bounded, and with one line for what is wrong."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from sqap_vla_ros.errors import LONGEST, shown, UserError
from sqap_vla_ros.input_files import (
    open_safetensors,
    read_bytes,
    read_json,
    read_npz,
    read_yaml,
    refuse_link_out,
)


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


def laughs(levels: int) -> str:
    """Return YAML whose aliases expand to 10 ** levels values."""
    lists = ['&z0 [x,x,x,x,x,x,x,x,x,x]']
    lists += [f'&z{i} [{",".join([f"*z{i - 1}"] * 10)}]' for i in range(1, levels)]
    return f'name: [{", ".join(lists)}]\n'


@pytest.mark.parametrize(
    'content, words',
    [
        (laughs(9), 'aliases written out'),
        ('a: &a ' + 'x' * 60_000 + '\nb: [' + '*a,' * 1000 + ']\n', 'aliases written out'),
        ('a: &a {b: *a}\n', 'part of'),
        ('a: ' + '[' * 20_000, 'nested too deeply'),
        ('a: ' + '{a: ' * 5000, 'nested too deeply'),
        ('- ' * 5000 + 'a', 'nested too deeply'),
        ('a: 1\nb: 2\na: 3\n', "key 'a' is there twice"),
        ('a: ' + '9' * 5000, 'not readable as YAML'),
        ('a: 2001-13-45', 'not readable as YAML'),
        ('a: 2001-12-14t21:59:43.10+99:99', 'not readable as YAML'),
        ('a: !!bool abc', 'not readable as YAML'),
        ('a: !!float abc', 'not readable as YAML'),
        ('a: !!python/object/apply:os.getcwd []', 'not readable as YAML'),
        ('a: "\\UFFFFFFFF"', 'not readable as YAML'),
        ('[a, b]: 1\n{c: 1}: 2\n', 'not readable as YAML'),
        ('a: b\0c', 'not readable as YAML'),
        ('#' * 2**19, 'larger than'),
    ],
)
def test_odd_yaml_is_refused_in_one_short_line(tmp_path, content, words):
    path = tmp_path / 'a.yaml'
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path, 'a recipe')
    message = str(caught.value)
    assert words in message and '\n' not in message and len(message) < LONGEST


def test_aliases_of_a_sane_size_are_allowed(tmp_path):
    (tmp_path / 'a.yaml').write_text('a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, b: 3}\n')
    assert read_yaml(tmp_path / 'a.yaml', '') == {
        'a': {'b': [1, 2]},
        'c': {'b': [1, 2]},
        'd': {'b': 3},
    }


def test_what_is_no_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'device').symlink_to('/dev/zero')
    for name, words in (
        ('pipe', 'not a file'),
        ('.', 'not a file'),
        ('device', 'not a file'),
        ('loop', 'cannot be read'),
        ('a' * 5000, 'cannot be read'),
        ('a\0b', 'cannot be read'),
        ('absent', 'no such file; expected a recipe'),
    ):
        with pytest.raises(UserError, match=words):
            read_bytes(tmp_path / name, 10, 'a recipe')


def test_half_a_surrogate_in_json_is_refused(tmp_path):
    (tmp_path / 'a.json').write_text('{"a": "\\ud800"}')
    with pytest.raises(UserError, match='not readable as JSON'):
        read_json(tmp_path / 'a.json')


def test_repeated_key_among_a_million_is_found_soon(tmp_path):
    keys = ','.join(f'"{i}":0' for i in range(200_000))
    (tmp_path / 'a.json').write_text(f'{{{keys},"199999":1}}')
    with pytest.raises(UserError, match="'199999' is there twice"):
        read_json(tmp_path / 'a.json')


@pytest.mark.parametrize(
    'value',
    ['x' * 10**6, [[0] * 10**5] * 10, 16**10**5, {'a': 'b' * 10**6}],
    ids=['text', 'lists', 'number', 'mapping'],
)
def test_values_are_cut_in_messages(value):
    assert len(shown(value)) < 200
    assert len(str(UserError(f'a is {"x" * 10**6}, expected less'))) < LONGEST + 10


def array_header(shape: tuple[int, ...], kind: str = '|u1') -> bytes:
    """Return the head of an .npy file that declares an array."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {'descr': kind, 'fortran_order': False, 'shape': shape}
    )
    return file.getvalue()


class Code:
    """Would run when it is unpickled."""

    def __reduce__(self):
        return os.getcwd, ()


def pickled() -> bytes:
    """Return an array of objects, as NumPy saves it."""
    file = io.BytesIO()
    np.save(file, np.array([Code()], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    'member, words',
    [
        (array_header((10**15,)), 'declared, but not there'),
        (array_header((2**40, 0, 2**40)), 'not readable as samples'),
        (array_header((-1,)), 'declared, but not there'),
        (b'', 'not readable as samples'),
        (pickled(), 'pickled objects'),
        (array_header((3,)) + b'abc', None),
    ],
)
def test_arrays_are_not_made_larger_than_their_file(tmp_path, member, words):
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', member)
    if words is None:
        read_npz(tmp_path / 'a.npz', 'samples')
    else:
        with pytest.raises(UserError, match=words):
            read_npz(tmp_path / 'a.npz', 'samples')


def test_array_that_unpacks_to_too_much_is_refused_unread(tmp_path):
    np.savez_compressed(tmp_path / 'a.npz', a=np.zeros(10**6, np.uint8))
    with pytest.raises(UserError, match='when unpacked'):
        read_npz(tmp_path / 'a.npz', 'samples', 10**5)
    data = (tmp_path / 'a.npz').read_bytes()
    (tmp_path / 'a.npz').write_bytes(data[:60] + b'\xff' * 60 + data[120:])
    with pytest.raises(UserError, match='not readable as samples'):
        read_npz(tmp_path / 'a.npz', 'samples')


def test_arrays_are_read_as_numpy_does(tmp_path):
    arrays = {
        'text': np.array(['a', 'bc']),
        'columns': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        'empty': np.empty((2, 0)),
    }
    np.savez(tmp_path / 'a.npz', **arrays)
    found = read_npz(tmp_path / 'a.npz', 'samples')
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and (found[name] == array).all()
        assert found[name].shape == array.shape and found[name].flags.writeable


def test_links_of_a_hugging_face_cache_are_followed_and_others_not(tmp_path):
    snapshot = tmp_path / 'models--a--b' / 'snapshots' / '0123'
    snapshot.mkdir(parents=True)
    (tmp_path / 'models--a--b' / 'blobs').mkdir()
    (tmp_path / 'models--a--b' / 'blobs' / 'f').write_text('{}')
    (tmp_path / 'secret').write_text('{}')
    (snapshot / 'config.json').symlink_to('../../blobs/f')
    (snapshot / 'copy.json').symlink_to('config.json')
    (snapshot / 'notes.txt').symlink_to(tmp_path / 'secret')
    (snapshot / 'loop').symlink_to('../../blobs/../../secret')
    refuse_link_out(snapshot / 'config.json')
    refuse_link_out(snapshot / 'copy.json')
    for name in ('notes.txt', 'loop'):
        with pytest.raises(UserError, match='a link out of the folder'):
            refuse_link_out(snapshot / name)
