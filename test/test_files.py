"""What is written appears whole or not at all."""

from pathlib import Path
import subprocess
import sys

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import replaced_directory

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
