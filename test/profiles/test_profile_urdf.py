"""Profiles compared with the URDF of their robot."""

import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.urdf import read_urdf

from support.profiles import GRIPPED, JOINT_SPACE
from support.urdf import URDF


@pytest.fixture
def urdf(tmp_path):
    """Write URDF; returns its path."""
    path = tmp_path / 'robot.urdf'
    path.write_text(URDF, 'utf-8')
    return path


def test_check_agrees_with_a_matching_urdf(write, urdf, capsys):
    assert main(['profile', 'check', str(write()), '--urdf', str(urdf)]) == 0
    assert 'no problems, agrees with' in capsys.readouterr().out


@pytest.mark.parametrize(
    'old, new, line, words',
    [
        ('name: shoulder', 'name: sholder', 8, "'sholder' is not in the URDF, which has shoulder"),
        ('lower: -90 deg', 'lower: -100 deg', 8, 'lower -1.74533 is beyond the -1.58'),
        ('velocity: 60 deg/s', 'velocity: 200 deg/s', 9, 'velocity 3.49066 is beyond the 2'),
        ('base_frame: base_link', 'base_frame: world', 1, "base_frame 'world' is not a link"),
        ('end_effector_frame: tool', 'end_effector_frame: hand', 1, "'hand' is not a link"),
        (
            'base_frame: base_link\nend_effector_frame: tool',
            'base_frame: tool\nend_effector_frame: base_link',
            1,
            "no joint of the URDF moves end_effector_frame 'base_link' against base_frame 'tool'; "
            'are they swapped?',
        ),
        ('base_frame: base_link', 'base_frame: optical', 1, "'tool' against base_frame 'optical'"),
        ('name: elbow', 'name: other_claw', 9, "'other_claw' mimics 'claw' in the URDF"),
        ('topic: twist}', 'topic: twist, frame: moon}', 20, "expected base_frame 'base_link' or"),
        ('limits:', GRIPPED.format(joint='grip', closed=0.9), 10, "'grip' is not in the URDF"),
        ('limits:', GRIPPED.format(joint='eye', closed=0.4), 10, "gripper.joint 'eye' is fixed"),
        (
            'limits:',
            GRIPPED.format(joint='claw', closed=0.9),
            10,
            'closed 0.9 is outside of 0 .. 0.8',
        ),
    ],
)
def test_check_shows_what_disagrees_with_the_urdf(write, urdf, capsys, old, new, line, words):
    path = write(old, new)
    assert main(['profile', 'check', str(path), '--urdf', str(urdf)]) == 1
    out = capsys.readouterr().out
    assert any(
        text.startswith(f'{path}:{line}: ') and words in text for text in out.splitlines()
    ), out


def test_what_the_urdf_does_not_say_is_told(tmp_path, urdf, capsys):
    path = tmp_path / 'profile.yaml'
    limit = '<limit lower="-1.0" upper="1.0" velocity="2.0" effort="1"/>'
    urdf.write_text(URDF.replace(limit, ''), 'utf-8')
    path.write_text(JOINT_SPACE.replace('name: shoulder', 'name: claw, type: revolute'), 'utf-8')
    main(['profile', 'check', str(path), '--urdf', str(urdf)])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith('note: ')]
    for words in (
        "'elbow': the URDF gives no limits",
        "'claw' is commanded, and does not move 'tool'",
        "'shoulder' moves 'tool', and is not in joints",
    ):
        assert any(words in note for note in notes), notes


@pytest.mark.parametrize(
    'text, words',
    [
        ('<robot xmlns:xacro="http://ros.org/wiki/xacro"><xacro:include/></robot>', 'expand it'),
        ('<sdf/>', 'expected <robot>'),
        ('no xml', 'not valid XML'),
    ],
)
def test_what_is_no_urdf_is_refused_in_one_line(write, tmp_path, capsys, text, words):
    path = tmp_path / 'wrong.urdf'
    path.write_text(text, 'utf-8')
    assert main(['profile', 'check', str(write()), '--urdf', str(path)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1


ENTITY = '<!DOCTYPE robot [<!ENTITY a "b">]><robot name="&a;"/>'


@pytest.mark.parametrize(
    'encoding, declared, words',
    [
        ('utf-8', 'utf-8', 'DOCTYPE'),
        ('utf-8-sig', 'utf-8', 'DOCTYPE'),
        ('latin-1', 'iso-8859-1', 'DOCTYPE'),
        ('utf-16', 'utf-16', 'not text in UTF-8'),
        ('utf-16-le', 'utf-16', 'not text in UTF-8'),
        ('utf-7', 'utf-7', 'encoding'),
        ('utf-32', 'utf-32', 'not text in UTF-8'),
        ('cp037', 'cp037', 'not text in UTF-8'),
        ('cp1252', 'windows-1252', 'encoding'),
    ],
)
def test_entities_are_found_in_every_encoding(tmp_path, encoding, declared, words):
    path = tmp_path / 'robot.urdf'
    path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>{ENTITY}'.encode(encoding))
    with pytest.raises(UserError, match=words):
        read_urdf(path)


def test_a_urdf_in_latin_1_is_read(tmp_path):
    path = tmp_path / 'robot.urdf'
    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?><robot name="r\xe9"><link name="a"/></robot>'
    )
    path.write_bytes(text.encode('latin-1'))
    assert read_urdf(path).name == 'r\xe9'
