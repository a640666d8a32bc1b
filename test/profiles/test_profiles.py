"""Robot profiles: the shipped ones are right, and a wrong one is shown line by line."""

import math

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.notes import notes_on
from sqap_vla_ros.profiles.reading import load_profile, profile_path, read_profile
from sqap_vla_ros.profiles.units import quantity

from support.profiles import GRIPPED, JOINT_SPACE, PROFILE

NAMES = ('sim_sawyer', 'sim_sawyer_compressed', 'franka_fr3', 'ur5e', 'so101')

METRES = 'gripper: {{joint: g, unit: m, open: 0, closed: {closed}}}\nlimits:'
HAND = (
    'gripper: {{unit: m, outputs: [{{type: gripper_command, action: g, open: 0, '
    'closed: {closed}}}]}}\nlimits:'
)
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
            'width is 640.5, expected a whole number of pixels',
        ),
        (
            'intrinsics: {width: 320, height: 240, fx: 600, fy: 600, cx: 320, cy: 240}',
            'cx is 320, expected less than width 320',
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
        ('workspace_low: [0, 0, 0]', 'workspace_low: [0, 0]', 17, 'has 2 values, expected 3'),
        ('workspace_low: [0, 0, 0]', 'workspace_low: [2, 0, 0]', 17, 'not below workspace_high'),
        ('limits:', 'limitz:', 10, 'limitz is not known'),
        (
            'twist_stamped, topic: twist',
            'joint_trajectory, topic: t',
            20,
            'needs action.space: joint_position',
        ),
        ('twist_stamped, topic: twist', 'telepathy, topic: t', 20, "'telepathy', expected one of"),
        ('limits:', 'gripper: {assumed: 2}\nlimits:', 10, 'gripper.assumed is 2, expected'),
        (
            'limits:',
            'gripper: {joint: g, open: 1, closed: 0, assumed: 1}\nlimits:',
            10,
            'leave one of them out',
        ),
        ('outputs:', 'outputs: []\nmore:', 19, 'outputs is empty'),
        ('base_frame: base_link', 'base_frame: [a', 4, 'not valid YAML'),
        ('end_effector_frame: tool', 'base_frame: tool', 4, 'base_frame is there twice'),
    ],
)
def test_each_mistake_is_shown_with_its_line(write, old, new, line, words):
    _, problems = read_profile(write(old, new))
    shown = [f'{problem.line}: {problem.message}' for problem in problems]
    assert any(problem.line == line and words in problem.message for problem in problems), shown


@pytest.mark.parametrize(
    'old, new, line, words',
    [
        ('lower: -1.0, upper: 1.0', 'lower: -100 rad, upper: 1.0', 9, 'expected -62.8319 .. 62.8'),
        ('lower: -1.0, upper: 1.0', 'lower: -1.0, upper: 180', 9, 'a number without a unit is in'),
        ('upper: 1.0', 'upper: 45', 9, 'write its unit: 45 rad or 45 deg'),
        ('velocity: 60 deg/s', 'velocity: 60', 9, 'expected at most 20 rad/s; a number without'),
        ('velocity: 60 deg/s', 'velocity: 10', 9, 'write its unit: 10 rad/s or 10 deg/s'),
        ('velocity: 60 deg/s', 'velocity: 1, acceleration: 0', 9, 'expected more than zero'),
        (
            'velocity: 60 deg/s',
            'velocity: 1, acceleration: 900',
            9,
            'expected at most 200 rad/s^2',
        ),
        ('velocity: 60 deg/s', 'velocity: 1, jerk: 1e6', 9, 'expected at most 20000 rad/s^3'),
        ('250 mm/s', '250', 11, 'linear_speed is 250, expected 0.001 .. 5 m/s; a number without'),
        ('250 mm/s', '0', 11, 'linear_speed is 0, expected 0.001 .. 5 m/s'),
        ('angular_speed: 0.5', 'angular_speed: 30', 12, 'expected 0.001 .. 20 rad/s'),
        ('linear_jerk: 10', 'linear_jerk: 1e5', 14, 'expected 0.1 .. 10000 m/s^3'),
        ('workspace_high: [1, 1, 1]', 'workspace_high: [1, 1, 400]', 18, 'expected -3 .. 3 m'),
        ('workspace_high: [1, 1, 1]', 'workspace_high: [1, 1, 0.006]', 17, 'by more than 6 mm'),
        ('linear_acceleration: 0.5', 'linear_acceleration: 3', 15, 'gentler than moving'),
        ('  stop_jerk: 20\n', '', 10, 'stop_jerk missing'),
        ('outputs:', 'rates: {command: 1000 Hz}\noutputs:', 19, 'expected 10 .. 500 Hz'),
        ('outputs:', 'max_camera_skew: 50\noutputs:', 19, 'expected at most 10 s'),
        ('outputs:', 'action: {linear_scale: 1000}\noutputs:', 19, 'expected at most 100'),
        (
            '{source: tf}',
            '{source: fixed, position: [500, 0, 0], quaternion_xyzw: [0, 0, 0, 1]}',
            6,
            'position is 500, expected -10 .. 10 m',
        ),
        (
            '{source: tf}',
            '{source: fixed, position: [1, 0, 0], quaternion_xyzw: [0, 0, 0, 2]}',
            6,
            'has length 2.0000, expected 1',
        ),
        (
            'topic: image,',
            'topic: image, intrinsics: {width: 64, height: 48, fx: 50, fy: 50, cx: 320, cy: 24},',
            6,
            'cx is 320, expected less than width 64',
        ),
        (
            'topic: image,',
            'topic: image, intrinsics: {width: 6.4, height: 48, fx: 50, fy: 50, cx: 3, cy: 24},',
            6,
            'width is 6.4, expected a whole number',
        ),
        ('limits:', GRIPPED.format(joint='g', closed=0), 10, 'open and closed are the same, 0'),
        ('limits:', GRIPPED.format(joint='g', closed=45), 10, 'expected -6.28319 .. 6.28319 rad'),
        ('limits:', METRES.format(closed=85), 10, 'closed is 85, expected -0.5 .. 0.5 m'),
        ('limits:', METRES.format(closed='FILL_IN'), 10, 'gripper.closed is still FILL_IN'),
        ('limits:', METRES.format(closed='40 inch'), 10, "unit 'inch' is not a unit of length"),
        ('limits:', 'gripper: {joint: g, open: 0, closed: 1}\nlimits:', 10, 'unit is missing'),
        (
            'limits:',
            'gripper: {outputs: [{type: float64, topic: g}]}\nlimits:',
            10,
            'outputs[0].closed is missing',
        ),
        ('limits:', HAND.format(closed=0.04), 10, 'max_effort is missing: every goal carries it'),
        (
            'limits:',
            METRES.format(
                closed='0.04, outputs: [{type: gripper_command, action: g, open: 0.04, '
                'closed: 0, max_effort: 1}]'
            ),
            10,
            'open 0.04 and closed 0 are the other way round than those of joint',
        ),
        (
            'topic: image,',
            'topic: image, intrinsics: {width: 64, height: 48, fx: 0.9, fy: 50, cx: 32, cy: 24},',
            6,
            'fx is 0.9, which is too short for width 64',
        ),
        ('outputs:', 'action: {joint_scale: 2}\noutputs:', 19, 'joint_scale would have no effect'),
        ('limits:', HAND.format(closed='0.04, max_effort: 1e4'), 10, 'expected 0 .. 1000'),
        ('limits:', HAND.format(closed='85, max_effort: 1'), 10, 'expected -0.5 .. 0.5 m'),
    ],
)
def test_a_value_that_no_robot_has_is_shown_with_its_line(write, old, new, line, words):
    test_each_mistake_is_shown_with_its_line(write, old, new, line, words)


@pytest.mark.parametrize(
    'old, new, line, words',
    [
        (
            'base_frame: base_link',
            'base_frame: /base_link',
            3,
            'no leading slash; write base_link',
        ),
        ('base_frame: base_link', 'base_frame: base link', 3, 'a name has no spaces'),
        (
            'base_frame: base_link',
            'base_frame: tool',
            4,
            "end_effector_frame is base_frame, 'tool'",
        ),
        ('base_frame: base_link', "base_frame: ''", 3, 'base_frame is empty'),
        ('optical_frame: optical', 'optical_frame: /optical', 6, 'no leading slash'),
        ('topic: image', 'topic: my image', 6, 'not a valid name in ROS 2'),
        ('topic: image', 'topic: camera//image', 6, 'not a valid name in ROS 2'),
        ('topic: twist', 'topic: 2nd/twist', 20, 'not a valid name in ROS 2'),
        ('optical_frame: optical', 'optical_frame: ~', 6, '~ means none'),
        (
            'optical_frame: optical',
            'optical_frame: optical, info_topic: null',
            6,
            'info_topic has no value (in YAML, null means none)',
        ),
        ('limits:', GRIPPED.format(joint='', closed=1), 10, 'nothing means none'),
        (
            'optical_frame: optical',
            'optical_frame: optical, info_topic: image',
            5,
            "'image' is the topic of raw images and of CameraInfo of optical",
        ),
        (
            '{source: tf}}',
            '{source: tf}}\n  other: {topic: image, transport: compressed, optical_frame: eye}',
            5,
            "'image' is the topic of raw images and of compressed images",
        ),
        (
            'limits:',
            'end_effector_pose: {source: topic, topic: joint_states}\nlimits:',
            1,
            "'joint_states' is the topic of the pose of the end effector and of joint states",
        ),
        ('topic: twist', 'topic: twist, frame: world', 20, "end_effector_frame 'tool': no other"),
        ('name: elbow', 'name: el bow', 9, 'a name has no spaces'),
        ('  camera:', "  '':", 6, "cameras: name '': it is empty"),
        ('limits:', GRIPPED.format(joint='elbow', closed=1), 9, "'elbow' is gripper.joint, too"),
        (
            'limits:',
            'joint_states: {topic: js, policy_names: {a: elbow, b: elbow}}\nlimits:',
            10,
            "policy_names.b is 'elbow', as is joint_states.policy_names.a",
        ),
        (
            'limits:',
            'action: {columns: {linear.x: linear.z, linear.y: linear.z}}\nlimits:',
            10,
            "columns.linear.y is 'linear.z', as is",
        ),
    ],
)
def test_a_name_that_cannot_be_is_shown_with_its_line(write, old, new, line, words):
    test_each_mistake_is_shown_with_its_line(write, old, new, line, words)


@pytest.mark.parametrize('number', ['45 deg', '20 rad', '3.0'])
def test_a_number_with_its_unit_may_be_large_or_in_degrees(write, number):
    _, problems = read_profile(write('lower: -1.0, upper: 1.0', f'lower: -1.0, upper: {number}'))
    assert problems == []


@pytest.mark.parametrize(
    'old, new, words',
    [
        ('topic: t}', 'topic: t, joints: [elbow]}', "no output commands 'shoulder'"),
        (
            'topic: t}',
            'topic: t, joints: [elbow, elbow]}',
            "joint 'elbow' is there more than once",
        ),
        ('topic: t}', 'topic: t, unit: deg}', 'unit is not known'),
        ('outputs:', 'limits: {linear_speed: 0.1}\noutputs:', 'linear_speed would have no effect'),
        (
            'joint_position}',
            'joint_position, joint_scale: 0.5}',
            'joint_scale would have no effect',
        ),
        (
            'joint_position}',
            'joint_position, linear_scale: 2}',
            'linear_scale would have no effect',
        ),
        (
            'outputs:',
            'joint_states: {topic: js, policy_names: {a: elbw}}\noutputs:',
            "policy_names.a is 'elbw', which is not in joints",
        ),
        (
            '{type: joint_trajectory, topic: t}',
            '{type: joint_state, topic: joint_states}',
            "'joint_states' is the topic of joint states and of the output joint_state",
        ),
        ('60 deg/s', '60 deg/s, calibrated_range: [1, 1]', 'calibrated_range [1, 1] is empty'),
        ('60 deg/s', '60 deg/s, calibrated_range: [3, 4]', 'outside of lower -1 .. upper 1'),
        ('60 deg/s', '60 deg/s, calibrated_range: [-100, 100]', 'expected -62.8319 .. 62.8319'),
        ('60 deg/s', '60 deg/s, policy_direction: 0', "'0', expected one of 1, -1"),
        ('60 deg/s', '60 deg/s, policy_zero: 45', 'write its unit: 45 rad or 45 deg'),
    ],
)
def test_mistakes_about_joints_that_are_commanded(tmp_path, old, new, words):
    path = tmp_path / 'joints.yaml'
    path.write_text(JOINT_SPACE, 'utf-8')
    assert read_profile(path)[1] == []
    path.write_text(JOINT_SPACE.replace(old, new), 'utf-8')
    problems = read_profile(path)[1]
    assert any(words in problem.message for problem in problems), problems


def test_a_joint_may_say_how_a_policy_counts_it(write):
    joint = load_profile(str(write())).joints[1]
    assert (joint.calibrated_range, joint.policy_zero, joint.policy_direction) == (None, 0.0, 1)
    path = write(
        'velocity: 60 deg/s',
        'velocity: 1, calibrated_range: [-57 deg, 1.0], policy_zero: 90 deg, policy_direction: -1',
    )
    joint = load_profile(str(path)).joints[1]
    assert joint.calibrated_range == pytest.approx((-0.99484, 1.0), abs=1e-5)
    assert joint.policy_zero == pytest.approx(math.pi / 2)
    assert joint.policy_direction == -1


def test_a_grasp_of_the_shipped_franka_hand_has_a_force():
    (output,) = load_profile('franka_fr3').gripper.outputs
    assert output.kind == 'gripper_command' and 10 <= output.max_effort <= 70


def test_what_needs_care_is_noted_and_no_problem(write, capsys):
    assert notes_on(load_profile(str(write()))) == []
    path = write('limits:', HAND.format(closed='0.04, max_effort: 0'))
    assert main(['profile', 'check', str(path)]) == 0
    out = capsys.readouterr().out
    assert 'note: gripper: max_effort of g is 0' in out
    path = write('topic: twist}', 'topic: /left/servo_node/delta_twist_cmds}')
    (note,) = notes_on(load_profile(str(path)))
    assert 'service call /left/servo_node/switch_command_type' in note and 'speed_units' in note


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


def test_the_frame_of_a_housing_is_told(write):
    notes = notes_on(read_profile(write('optical_frame: optical', 'optical_frame: eye_link'))[0])
    assert any("'eye_link', which looks like the frame of the housing" in note for note in notes)


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


@pytest.mark.parametrize(
    'old, new, words',
    [
        ('robot: ', 'robot: "a\\e[2J" # ', 'one line'),
        ('base_frame: ', 'base_frame: ' + 'x' * 1000 + ' # ', 'at most 100 characters'),
        ('base_frame: ', 'base_frame: "a\\x07b" # ', 'control characters'),
        ('topic: image', 'topic: ' + 'x' * 200, 'at most 150 characters'),
        ('robot: ', 'x: [' + 'a,' * 500 + ']\nrobot: ', 'x is not known'),
        ('robot: ', 'outputs: [' + 'a,' * 500 + ']\nrobot: ', 'has 500 entries'),
        (
            'robot: ',
            ''.join(f'k{i}: 1\n' for i in range(500)) + 'robot: ',
            'keys, expected at most',
        ),
        ('robot: ', 'max_camera_skew: ' + '1' * 50_000 + 'x\nrobot: ', 'is not a number'),
    ],
)
def test_hostile_text_is_refused_soon_and_in_short_lines(write, old, new, words, capsys):
    assert main(['profile', 'check', str(write(old, new))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(words in line for line in lines), lines
    assert all(line.isprintable() and len(line) < 1200 for line in lines)


def test_ends_of_a_gripper_that_differ_by_rounding_alone_are_the_same(write):
    ends = 'gripper: {joint: g, unit: m, open: 0.04, closed: 0.0400000001}\n'
    _, problems = read_profile(write('joints:', ends + 'joints:'))
    assert any('open and closed are the same' in problem.message for problem in problems)
