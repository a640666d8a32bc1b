"""Robot profiles: the shipped ones are right, and a wrong one is shown line by line."""

import math

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.reading import load_profile, profile_path, read_profile
from sqap_vla_ros.profiles.units import quantity

from support.urdf import URDF

NAMES = ('sim_sawyer', 'sim_sawyer_compressed', 'franka_fr3', 'ur5e', 'so101')

PROFILE = """\
robot: Two-joint arm
run_on_hardware: false
base_frame: base_link
end_effector_frame: tool
cameras:
  camera: {topic: image, optical_frame: optical, extrinsics: {source: tf}}
joints:
  - {name: shoulder, lower: -90 deg, upper: 90 deg, velocity: 1.0}
  - {name: elbow, lower: -1.0, upper: 1.0, velocity: 60 deg/s}
limits:
  linear_speed: 250 mm/s
  workspace_low: [0, 0, 0]
  workspace_high: [1, 1, 1]
outputs:
  - {type: twist_stamped, topic: twist}
"""


@pytest.fixture
def write(tmp_path):
    """Write PROFILE with a replacement; returns its path."""

    def write(old='', new=''):
        assert old in PROFILE
        path = tmp_path / 'profile.yaml'
        path.write_text(PROFILE.replace(old, new, 1) if old else PROFILE, 'utf-8')
        return path

    return write


@pytest.fixture
def urdf(tmp_path):
    """Write URDF; returns its path."""
    path = tmp_path / 'robot.urdf'
    path.write_text(URDF, 'utf-8')
    return path


CAMERA = '{topic: image, optical_frame: optical, extrinsics: {source: tf}}'


@pytest.mark.parametrize(
    'fields, expected',
    [
        ('topic: image', (None, False)),
        ('topic: image, color_order: bgr', ('bgr', False)),
        ('topic: image, color_order: mono, rectified: true', ('mono', True)),
        ('topic: wrist/image_rect', (None, True)),
        ('topic: wrist/image_rect_color/compressed, transport: compressed', (None, True)),
        ('topic: wrist/image_rect, rectified: false', (None, False)),
    ],
)
def test_a_camera_says_what_its_samples_are_and_whether_it_is_rectified(write, fields, expected):
    path = write(CAMERA, CAMERA.replace('topic: image', fields))
    (camera,) = load_profile(path).cameras
    assert (camera.color_order, camera.rectified) == expected


@pytest.mark.parametrize(
    'fields, match',
    [
        ('color_order: rbg', "color_order is 'rbg', expected one of rgb, bgr, mono"),
        ('rectified: maybe', "rectified is 'maybe', expected true or false"),
        (
            'intrinsics: {width: 640.5, height: 480, fx: 1, fy: 1, cx: 320, cy: 240}',
            'width is 640.5, expected whole pixels',
        ),
        (
            'intrinsics: {width: 320, height: 240, fx: 600, fy: 600, cx: 320, cy: 240}',
            'cx is 320, expected less than width, 320',
        ),
    ],
)
def test_a_camera_that_makes_no_sense_is_shown_with_its_line(write, fields, match):
    _, problems = read_profile(
        write(CAMERA, CAMERA.replace('topic: image', f'topic: i, {fields}'))
    )
    assert any(match in problem.message and problem.line == 6 for problem in problems), problems


@pytest.mark.parametrize('name', NAMES)
def test_shipped_profiles_have_no_problems(name):
    profile, problems = read_profile(profile_path(name))
    assert problems == []
    assert profile.needs_acknowledgement == (not name.startswith('sim'))
    text = profile_path(name).read_text('utf-8')
    assert (
        name.startswith('sim')
        or 'Never run\n# on the robot' in text
        or 'Never run on the robot' in text
    )


def test_every_shipped_profile_is_tested(repository):
    assert {path.stem for path in (repository / 'config/robots').glob('*.yaml')} == set(NAMES)


def test_values_arrive_in_si_units(write):
    profile = load_profile(str(write()))
    assert profile.joints[0].lower == pytest.approx(-math.pi / 2)
    assert profile.joints[1].velocity == pytest.approx(math.pi / 3)
    assert profile.settings['max_linear_speed_m_s'] == pytest.approx(0.25)
    assert profile.settings['workspace_high_m'] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    'old, new, line, words',
    [
        ('robot: Two', 'robott: Two', 1, 'robott is not known'),
        ('run_on_hardware: false\n', '', 1, 'run_on_hardware is missing'),
        ('run_on_hardware: false', 'run_on_hardware: maybe', 2, 'expected true or false'),
        ('source: tf', 'source: guess', 6, "'guess', expected one of topic, tf, fixed, none"),
        ('source: tf', 'source: fixed', 6, 'position is missing'),
        ('topic: image', 'topic: image, topc: x', 6, 'cameras.camera.topc is not known'),
        ('90 deg, velocity: 1.0', '90 m, velocity: 1.0', 8, "unit 'm' is not a unit of angle"),
        ('velocity: 1.0', 'velocity: -1.0', 8, 'expected more than zero'),
        ('velocity: 1.0', 'velocity: .nan', 8, "'.nan' is not a number"),
        ('lower: -1.0, upper: 1.0', 'lower: 1.0, upper: -1.0', 9, 'is not below upper'),
        ('name: elbow', 'name: shoulder', 8, "'shoulder' is there more than once"),
        ('workspace_low: [0, 0, 0]', 'workspace_low: [0, 0]', 12, 'has 2 values, expected 3'),
        ('workspace_low: [0, 0, 0]', 'workspace_low: [2, 0, 0]', 12, 'not below workspace_high'),
        ('limits:', 'limitz:', 10, 'limitz is not known'),
        (
            'twist_stamped, topic: twist',
            'joint_trajectory, topic: t',
            15,
            'needs action.space: joint_position',
        ),
        ('twist_stamped, topic: twist', 'telepathy, topic: t', 15, "'telepathy', expected one of"),
        ('limits:', 'gripper: {assumed: 2}\nlimits:', 10, 'gripper.assumed is 2, expected'),
        (
            'limits:',
            'gripper: {joint: g, open: 1, closed: 0, assumed: 1}\nlimits:',
            10,
            'leave one of them out',
        ),
        ('outputs:', 'outputs: []\nmore:', 14, 'outputs is empty'),
        ('base_frame: base_link', 'base_frame: [a', 4, 'not valid YAML'),
        ('end_effector_frame: tool', 'base_frame: tool', 4, 'base_frame is there twice'),
    ],
)
def test_each_mistake_is_shown_with_its_line(write, old, new, line, words):
    _, problems = read_profile(write(old, new))
    shown = [f'{problem.line}: {problem.message}' for problem in problems]
    assert any(problem.line == line and words in problem.message for problem in problems), shown


def test_a_trajectory_is_never_longer_than_its_limit(write):
    for horizon, wrong in (('0.2 s', False), ('200 ms', False), ('0.25', True), ('1 s', True)):
        _, problems = read_profile(
            write(
                '{type: twist_stamped, topic: twist}',
                f'{{type: joint_trajectory, topic: t, horizon: {horizon}}}',
            )
        )
        assert any('horizon' in problem.message for problem in problems) == wrong, horizon


def test_a_forward_velocity_controller_must_stop_by_itself(write):
    line = '{type: float64_multi_array, topic: t, interface: velocity}'
    _, problems = read_profile(write('{type: twist_stamped, topic: twist}', line))
    assert any('keeps the last velocity for ever' in problem.message for problem in problems)
    _, problems = read_profile(
        write(
            '{type: twist_stamped, topic: twist}',
            line[:-1] + ', controller_stops_by_itself: true}',
        )
    )
    assert not any('for ever' in problem.message for problem in problems)


def test_loading_a_wrong_profile_names_file_line_and_command(write):
    path = write('velocity: 1.0', 'velocity: fast')
    with pytest.raises(UserError, match=rf'{path}:8: .*not a number.*profile check'):
        load_profile(str(path))


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(UserError, match=', '.join(sorted(NAMES))):
        load_profile('terminator')


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
        ('topic: twist}', 'topic: twist, frame: moon}', 1, "'moon' is not a link"),
    ],
)
def test_check_shows_what_disagrees_with_the_urdf(write, urdf, capsys, old, new, line, words):
    path = write(old, new)
    assert main(['profile', 'check', str(path), '--urdf', str(urdf)]) == 1
    out = capsys.readouterr().out
    assert any(
        text.startswith(f'{path}:{line}: ') and words in text for text in out.splitlines()
    ), out


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


@hypothesis_settings(deadline=None)
@given(st.floats(-1e6, 1e6))
def test_degrees_and_radians_agree(value):
    assert quantity(f'{value!r} deg', 'angle') == pytest.approx(math.radians(value))
    assert quantity(repr(value), 'angle') == value


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PROFILE) - 1), st.text(max_size=3))
def test_a_damaged_profile_never_raises_anything_else(tmp_path_factory, place, text):
    path = tmp_path_factory.mktemp('damaged') / 'profile.yaml'
    path.write_text(PROFILE[:place] + text + PROFILE[place + 2 :], 'utf-8', errors='ignore')
    profile, problems = read_profile(path)
    assert profile is not None or problems
