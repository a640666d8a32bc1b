"""A profile made from a URDF is right, and refuses what the URDF does not have."""

import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.profiles.reading import load_profile

from support.urdf import URDF

CORNERS = ['--workspace-low', '0.2', '-0.2', '0.05', '--workspace-high', '0.5', '0.2', '0.4']


@pytest.fixture
def urdf(tmp_path):
    path = tmp_path / 'two.urdf'
    path.write_text(URDF, 'utf-8')
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


ENDS = ['--gripper-joint', 'claw', '--gripper-open', '0', '--gripper-closed', '45 deg']


@pytest.mark.parametrize('arguments', [[], ['--no-tf'], ENDS])
def test_what_is_made_passes_the_check(urdf, tmp_path, arguments):
    output = tmp_path / 'mine.yaml'
    assert make(urdf, output, *arguments) == 0
    assert main(['profile', 'check', str(output), '--urdf', str(urdf)]) == 0
    profile = load_profile(str(output))
    assert profile.needs_acknowledgement
    assert profile.pose_source == ('topic' if '--no-tf' in arguments else 'tf')
    assert profile.settings['workspace_low_m'] == [0.2, -0.2, 0.05]
    assert [joint.name for joint in profile.joints] == ['shoulder', 'elbow']
    if arguments is ENDS:
        assert profile.gripper.joint == 'claw' and profile.gripper.assumed is None
        assert (profile.gripper.opened, profile.gripper.closed) == pytest.approx((0, 0.785398))
    else:
        assert profile.gripper.joint == '' and profile.gripper.assumed == 0.0


def test_the_open_end_of_a_gripper_is_not_guessed(urdf, tmp_path, capsys):
    output = tmp_path / 'mine.yaml'
    assert make(urdf, output, '--gripper-joint', 'claw') == 0
    text = output.read_text('utf-8')
    assert 'Between 0 and 0.8. The URDF does not say which end is open' in text
    assert main(['profile', 'check', str(output), '--urdf', str(urdf)]) == 1
    out = capsys.readouterr().out
    for key in ('open', 'closed', 'outputs[0].open', 'outputs[0].closed'):
        assert f'gripper.{key} is still FILL_IN' in out
    assert '4 problems' in out
    output.write_text(
        text.replace('open: FILL_IN', 'open: 0').replace('closed: FILL_IN', 'closed: 0.7'), 'utf-8'
    )
    assert main(['profile', 'check', str(output), '--urdf', str(urdf)]) == 0


def test_joints_that_are_not_of_the_arm_are_left_out_by_name(urdf, tmp_path, capsys):
    urdf.write_text(
        URDF.replace(
            '</robot>',
            '<link name="wheel"/><joint name="roll" type="continuous"><parent link="base_link"/>'
            '<child link="wheel"/></joint><link name="cup"/><joint name="loose" type="floating">'
            '<parent link="base_link"/><child link="cup"/></joint></robot>',
        ),
        'utf-8',
    )
    assert make(urdf, tmp_path / 'mine.yaml') == 0
    out = capsys.readouterr().out
    assert "'other_claw' is left out: it mimics 'claw'" in out
    assert "'loose' is left out: it is floating" in out
    assert "'roll' is left out: it is not between" in out


@pytest.mark.parametrize(
    'old, new, words',
    [
        ('lower="-1.0" upper="1.0" ', '', "'elbow': the URDF gives no limits"),
        (
            'lower="-1.0" upper="1.0"',
            'lower="-180" upper="180"',
            "'elbow': the URDF gives no limits",
        ),
        ('upper="1.0" velocity="2.0"', 'upper="1.0" velocity="100"', 'velocity 100 in the URDF'),
        ('upper="1.0" velocity="2.0"', 'upper="1.0" velocity="0"', 'velocity 0 in the URDF, 0.5'),
    ],
)
def test_limits_that_a_urdf_lacks_are_named(urdf, tmp_path, capsys, old, new, words):
    assert old in URDF
    urdf.write_text(URDF.replace(old, new), 'utf-8')
    output = tmp_path / 'mine.yaml'
    assert make(urdf, output) == 0
    assert words in capsys.readouterr().out
    limits = 'no limits' in words
    assert main(['profile', 'check', str(output)]) == int(limits)
    assert ('joints[1].upper is still FILL_IN' in capsys.readouterr().out) == limits


def test_a_continuous_joint_needs_no_limits(urdf, tmp_path):
    urdf.write_text(
        URDF.replace('name="elbow" type="revolute"', 'name="elbow" type="continuous"'), 'utf-8'
    )
    output = tmp_path / 'mine.yaml'
    assert make(urdf, output) == 0
    assert main(['profile', 'check', str(output), '--urdf', str(urdf)]) == 0


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--gripper-joint', 'other_claw'], "'other_claw' mimics 'claw'; give that"),
        (['--gripper-joint', 'eye'], "fixed is the joint 'eye'; joints that move: shoulder"),
        (['--gripper-joint', 'hand'], "it has no joint 'hand'"),
        (['--gripper-open', '0'], 'belong together'),
        ([*ENDS[:4], '--gripper-closed', '0'], 'open and closed are both 0'),
        ([*ENDS[:4], '--gripper-closed', '45'], 'at 45 is outside of 0 .. 0.8'),
        ([*ENDS[:4], '--gripper-closed', '40 mm'], "unit 'mm' is not a unit of angle"),
        ([*ENDS[:4], '--gripper-closed', 'shut'], "'shut' is not a number"),
    ],
)
def test_a_gripper_that_cannot_be_is_refused(urdf, tmp_path, capsys, arguments, words):
    assert make(urdf, tmp_path / 'mine.yaml', *arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
    assert not (tmp_path / 'mine.yaml').exists()


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
        ({'base': 'tool', 'end': 'base_link'}, "no moving joint leads from 'tool' to 'base_link'"),
        ({'base': 'tool', 'end': 'optical'}, "no moving joint leads from 'tool' to 'optical'"),
    ],
)
def test_links_that_are_not_there_are_named(urdf, tmp_path, capsys, names, words):
    assert make(urdf, tmp_path / 'mine.yaml', **names) == 2
    assert words in capsys.readouterr().err
