"""A profile made from a URDF is right, and refuses what the URDF does not have."""

import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.profiles.reading import load_profile

from support.urdf import URDF

HAND = (
    '<link name="finger"/><joint name="grip" type="prismatic"><limit lower="0" upper="0.04" '
    'velocity="0.1" effort="1"/></joint></robot>'
)
CORNERS = ['--workspace-low', '0.2', '-0.2', '0.05', '--workspace-high', '0.5', '0.2', '0.4']


@pytest.fixture
def urdf(tmp_path):
    path = tmp_path / 'two.urdf'
    path.write_text(URDF.replace('</robot>', HAND), 'utf-8')
    return path


def make(urdf, output, *arguments, base='base_link', end='tool'):
    return main(
        [
            'profile',
            'new',
            str(urdf),
            str(output),
            '--base',
            base,
            '--end-effector',
            end,
            *CORNERS,
            *arguments,
        ]
    )


@pytest.mark.parametrize('arguments', [[], ['--no-tf'], ['--gripper-joint', 'grip']])
def test_what_is_made_passes_the_check(urdf, tmp_path, arguments):
    output = tmp_path / 'mine.yaml'
    assert make(urdf, output, *arguments) == 0
    assert main(['profile', 'check', str(output), '--urdf', str(urdf)]) == 0
    profile = load_profile(str(output))
    assert profile.needs_acknowledgement
    assert profile.pose_source == ('topic' if '--no-tf' in arguments else 'tf')
    assert profile.settings['workspace_low_m'] == [0.2, -0.2, 0.05]
    names = [joint.name for joint in profile.joints]
    assert names == (
        ['shoulder', 'elbow'] if 'grip' in arguments else ['shoulder', 'elbow', 'grip']
    )
    assert profile.gripper.joint == ('grip' if 'grip' in arguments else '')
    assert profile.gripper.assumed == (None if 'grip' in arguments else 0.0)


def test_an_existing_file_is_never_overwritten(urdf, tmp_path, capsys):
    output = tmp_path / 'mine.yaml'
    output.write_text('precious')
    assert make(urdf, output) == 2
    assert output.read_text() == 'precious' and 'exists already' in capsys.readouterr().err


@pytest.mark.parametrize(
    'names, words',
    [
        ({'base': 'nowhere'}, "no link 'nowhere'; it has base_link"),
        ({'end': 'hand'}, "no link 'hand'"),
    ],
)
def test_links_that_are_not_there_are_named(urdf, tmp_path, capsys, names, words):
    assert make(urdf, tmp_path / 'mine.yaml', **names) == 2
    assert words in capsys.readouterr().err
