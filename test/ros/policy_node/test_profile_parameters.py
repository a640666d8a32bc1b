"""What a profile does to the policy node: defaults, consent, joint-space outputs."""

from contextlib import contextmanager
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from std_msgs.msg import Float64, String
from trajectory_msgs.msg import JointTrajectory
import yaml

from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.ranges import PARAMETERS as RANGES
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.ros.common.qos import LATCHED
from sqap_vla_ros.ros.policy_node import parameters

from support.dds import client_node, domain, start_node, wait_until
from support.robot import Robot

MODULE = 'sqap_vla_ros.ros.policy_node.node'
PATIENCE_S = 240
SLIDES = ('slide_x', 'slide_y', 'slide_z')
UNTESTED = parameters.PolicyNodeSettings(profile='ur5e')


def test_the_profile_of_the_simulated_arm_states_the_default_limits_and_gripper():
    """The defaults come from `MotionLimits`; the profile says the same of its robot."""
    profile = parameters.profile_defaults(load_profile('sim_sawyer'))
    defaults = asdict(parameters.PolicyNodeSettings())
    limits = {name for name in defaults if name.startswith(('max_linear', 'stop_', 'workspace_'))}
    assert limits | {'max_angular_speed_rad_s', 'command_rate_hz'} <= set(profile)
    assert as_tuples(profile) == {name: defaults[name] for name in profile}
    assert parameters.PolicyNodeSettings().motion_limits() == MotionLimits()


def as_tuples(values):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def test_the_parameter_file_repeats_nothing_of_the_robot(repository):
    file = yaml.safe_load((repository / 'config/policy_node.yaml').read_text('utf-8'))
    given = set(file['/**']['ros__parameters'])
    assert given <= set(parameters.BY_NAME)
    robot = set(parameters.profile_defaults(load_profile('sim_sawyer')))
    assert not given & (robot - {'inference_rate_hz', 'command_rate_hz'})


@pytest.mark.parametrize(
    'name, wrong, known',
    [
        ('execution_mode', 'telepathy', 'sequential, temporal_ensemble, adaptive_ensemble'),
        ('cuda_graphs', 'sometimes', 'auto, on, off'),
        ('device', 'gpu', 'cpu, cuda, cuda:N'),
        ('device', 'cuda:first', 'cpu, cuda, cuda:N'),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(name, wrong, known):
    with pytest.raises(ValueError, match=f"{name} is '{wrong}', expected one of {known}"):
        parameters.changed(parameters.PolicyNodeSettings(), [Parameter(name, value=wrong)])
    assert known in parameters.BY_NAME[name].descriptor().additional_constraints


class Declaring:
    """A node that is given parameters and declares them."""

    def __init__(self, **given):
        self._parameter_overrides = given
        self._values, self.warnings = {}, []

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)

    def has_parameter(self, name):
        return name in self._values

    def get_parameter(self, name):
        return SimpleNamespace(value=self._values[name])

    def declare_parameter(self, name, default, descriptor):
        self._values[name] = self._parameter_overrides.get(name, default)
        return self.get_parameter(name)


def test_another_gripper_joint_needs_its_own_open_and_closed_positions():
    with pytest.raises(UserError, match="gripper_joint is 'g', in the profile ''; set gripper_op"):
        parameters.declare_settings(Declaring(profile='ur5e', gripper_joint='g'))
    with pytest.raises(UserError, match='set gripper_closed_position as well'):
        parameters.declare_settings(
            Declaring(profile='franka_fr3', gripper_joint='g', gripper_open_position=0.0)
        )
    settings, _ = parameters.declare_settings(
        Declaring(
            profile='ur5e',
            gripper_joint='g',
            gripper_open_position=0.0,
            gripper_closed_position=0.8,
        )
    )
    assert settings.gripper_closed_position == 0.8
    assert parameters.declare_settings(Declaring(profile='franka_fr3', gripper_joint=''))


def test_another_base_frame_than_the_profiles_is_told():
    node = Declaring(profile='ur5e', base_frame='world')
    parameters.declare_settings(node)
    assert "base_frame is 'world', in the profile 'base_link'" in node.warnings[0]
    node = Declaring(profile='ur5e')
    parameters.declare_settings(node)
    assert not node.warnings


def test_changes_make_new_settings_all_or_none():
    before = parameters.PolicyNodeSettings()
    good = Parameter('command_rate_hz', value=20.0)
    after = parameters.changed(
        before,
        [
            good,
            Parameter('device', value='cuda:1'),
            Parameter('workspace_low_m', value=[-0.3, 0.4, 0.02]),
            Parameter('use_sim_time', value=True),
        ],
    )
    assert after == replace(
        before, command_rate_hz=20.0, device='cuda:1', workspace_low_m=(-0.3, 0.4, 0.02)
    )
    for name, value, words in (
        ('max_linear_speed_m_s', float('nan'), 'finite number'),
        ('workspace_low_m', [0.0, 0.0], 'expected 3 finite numbers'),
        ('workspace_low_m', [1.0, 1.0, 1.0], 'below workspace_high_m'),
        ('stop_deceleration_m_s2', 1.0, 'at least linear_acceleration_m_s2'),
    ):
        with pytest.raises(ValueError, match=words):
            parameters.changed(before, [good, Parameter(name, value=value)])


@pytest.mark.parametrize(
    'argument, words',
    [
        ('execution_mode:=telepathy', "execution_mode is 'telepathy', expected one of sequential"),
        ('gripper_open_position:=0.04', 'gripper_open_position and gripper_closed_position are'),
        ('base_frame:=base_link', "frame is 'base', expected base_frame 'base_link'"),
        ('device:=gpu', "device is 'gpu', expected one of cpu, cuda, cuda:N"),
        ('stop_deceleration_m_s2:=1.0', 'expected at least linear_acceleration_m_s2'),
    ],
)
def test_a_wrong_value_ends_the_node_with_one_line(repository, tmp_path, argument, words):
    text = (repository / 'config/robots/sim_sawyer.yaml').read_text('utf-8')
    profile = tmp_path / 'framed.yaml'
    profile.write_text(text.replace('twist_command}', 'twist_command, frame: base}'), 'utf-8')
    process = start_node(MODULE, tmp_path, domain(), '-p', argument, '-p', f'profile:={profile}')
    assert process.wait(PATIENCE_S) == 2
    log = process.log.read_text()
    assert words in log and 'Traceback' not in log
    assert len([line for line in log.splitlines() if line.startswith('policy_node:')]) == 1


def test_a_workspace_farther_than_any_arm_reaches_is_refused():
    with pytest.raises(ValueError, match='workspace_high_m is .*expected numbers of -3 .. 3'):
        parameters.changed(
            parameters.PolicyNodeSettings(),
            [Parameter('workspace_high_m', value=[0.3, 0.9, 400.0])],
        )


def test_the_node_and_profiles_have_the_same_ranges():
    for name, (low, high) in RANGES.items():
        setting = parameters.BY_NAME[name]
        assert (setting.low, setting.high) == (low, high), name
    assert set(RANGES) == set(load_profile('sim_sawyer').settings)


def test_an_untested_profile_needs_an_acknowledgement_or_a_dry_run():
    untested = load_profile('ur5e')
    with pytest.raises(UserError, match='acknowledge_untested_profile:=true'):
        parameters.check_acknowledged(UNTESTED, untested)
    for name in ('acknowledge_untested_profile', 'dry_run'):
        parameters.check_acknowledged(replace(UNTESTED, **{name: True}), untested)
    parameters.check_acknowledged(UNTESTED, load_profile('sim_sawyer'))


@pytest.mark.parametrize(
    'text, words',
    [('nonsense', 'neither a file nor a shipped profile'), ('robot: x', 'is missing')],
)
def test_a_wrong_profile_ends_the_node_with_one_line(tmp_path, text, words):
    profile = text
    if ':' in text:
        profile = tmp_path / 'wrong.yaml'
        profile.write_text(text)
    process = start_node(MODULE, tmp_path, domain(), '-p', f'profile:={profile}')
    assert process.wait(PATIENCE_S) == 2
    log = process.log.read_text()
    assert words in log and 'Traceback' not in log


class Gantry(Robot):
    """The stand-in robot with slides and a finger."""

    def make_joints(self, names=(*SLIDES, 'finger_joint')):
        return super().make_joints(names)


@pytest.fixture
def gantry(repository, tmp_path):
    """Write the gantry's profile with the pose from a topic, in the frame of the stand-in."""
    text = (repository / 'config/gazebo/profile.yaml').read_text('utf-8')
    path = tmp_path / 'gantry.yaml'
    path.write_text(
        text.replace('{source: tf}', '{source: topic, topic: end_effector_pose}').replace(
            'base_frame: base_link', 'base_frame: base'
        ),
        'utf-8',
    )
    return path


class TurnedRobot(Robot):
    """The stand-in robot whose end effector looks down and is turned about its own z."""

    TURN = Rotation.from_euler('x', np.pi) * Rotation.from_euler('z', 0.7)

    def make_pose(self, x=0.0, y=0.65, z=0.2):
        message = super().make_pose(x, y, z)
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = map(float, self.TURN.as_quat())
        return message


@pytest.mark.timeout(2 * PATIENCE_S)
def test_a_policy_drives_joints_by_trajectories(random_policy, gantry, tmp_path):
    with running(random_policy, gantry, tmp_path) as (client, process, moved_until):
        robot = Gantry(client)
        trajectories = client.listen(JointTrajectory, 'arm_controller/joint_trajectory', 100)
        client.listen(Float64, 'gripper_command')
        moved_until(robot, lambda: len(trajectories) > 20)
    velocities = np.array(
        [point.velocities for message in trajectories for point in message.points]
    )
    assert all(tuple(message.joint_names) == SLIDES for message in trajectories)
    assert all(message.header.frame_id == 'base' for message in trajectories)
    assert all(not any(message.points[-1].velocities) for message in trajectories)
    assert np.abs(velocities).max() <= 0.25 + 1e-9
    assert not robot.twists and 'Traceback' not in process.log.read_text()


@pytest.mark.timeout(2 * PATIENCE_S)
def test_twists_are_turned_by_the_measured_orientation(random_policy, repository, tmp_path):
    text = (repository / 'config/robots/sim_sawyer.yaml').read_text('utf-8')
    path = tmp_path / 'turned.yaml'
    line = '  - {type: twist_stamped, topic: framed, frame: end_effector}\n'
    path.write_text(
        text.replace('outputs:\n  - {type: twist', f'outputs:\n{line}  - {{type: twist')
    )
    with running(random_policy, path, tmp_path) as (client, _, moved_until):
        framed = client.listen(TwistStamped, 'framed', 100)
        robot = TurnedRobot(client)
        moved_until(robot, lambda: sum(np.any(parts(m)) for m in list(framed)) > 20)
    base = {stamp_to_ns(message.header.stamp): parts(message) for message in robot.twists}
    pairs = [
        (parts(message), base[stamp_to_ns(message.header.stamp)])
        for message in framed
        if stamp_to_ns(message.header.stamp) in base
    ]
    assert sum(bool(np.any(turned)) for turned, _ in pairs) > 5
    for turned, straight in pairs:
        np.testing.assert_allclose(TurnedRobot.TURN.apply(turned), straight, atol=1e-9)


def parts(message):
    """Linear and angular part of a TwistStamped, [2, 3]."""
    linear, angular = message.twist.linear, message.twist.angular
    return np.array([[linear.x, linear.y, linear.z], [angular.x, angular.y, angular.z]])


@contextmanager
def running(policy, profile, tmp_path):
    """Run the node on a profile; gives a client, the process, and how to move until something."""
    domain_id = domain()
    parameter = {
        'policy': policy,
        'profile': profile,
        'start_on_instruction': 'true',
        'inference_deadline_s': 20.0,
        'observation_timeout_s': 5.0,
    }
    arguments = [part for name, value in parameter.items() for part in ('-p', f'{name}:={value}')]
    process = start_node(MODULE, tmp_path, domain_id, *arguments)

    def moved_until(robot, reached):
        states = client.listen(String, 'policy_node/state', LATCHED)
        for transition in (1, 3):  # configure, activate
            request = ChangeState.Request()
            request.transition.id = transition
            answer = client.call(ChangeState, 'policy_node/change_state', request, PATIENCE_S)
            assert answer.success, process.log.read_text()[-2000:]

        def moved():
            robot.instruction.publish(String(data='open the drawer'))
            return reached()

        assert wait_until(moved, PATIENCE_S, 0.3), states[-1:]
        robot.close()

    try:
        with client_node(domain_id) as client:
            yield client, process, moved_until
    finally:
        process.stop()


@pytest.mark.parametrize(
    'name, tighter, looser',
    [
        ('max_linear_speed_m_s', 0.1, 5.0),
        ('max_angular_speed_rad_s', 0.1, 1.0),
        ('max_linear_acceleration_m_s2', 1.0, 1.6),
        ('max_linear_jerk_m_s3', 20.0, 31.0),
        ('workspace_low_m', [-0.3, 0.4, 0.02], [-0.3, 0.4, 0.0]),
        ('workspace_high_m', [0.3, 0.9, 0.4], [0.3, 0.9, 0.41]),
        ('observation_timeout_s', 0.2, 60.0),
        ('max_stamp_age_s', 0.5, 600.0),
    ],
)
def test_a_running_node_can_be_made_more_careful_and_not_less(name, tighter, looser):
    started = parameters.PolicyNodeSettings()
    after = parameters.changed(started, [Parameter(name, value=tighter)], started)
    assert after != started
    back = getattr(started, name)
    back = list(back) if isinstance(back, tuple) else back
    assert parameters.changed(after, [Parameter(name, value=back)], started) == started
    with pytest.raises(ValueError, match=f'{name} is .*as the node was started with'):
        # As it arrives: numbers of a list are in an array then.
        message = Parameter(name, value=looser).to_parameter_msg()
        parameters.changed(started, [Parameter.from_parameter_msg(message)], started)


@pytest.mark.parametrize(
    'name, careful', [('start_on_instruction', False), ('hold_on_frozen_camera', True)]
)
def test_nobody_on_the_graph_takes_away_what_the_start_asked_for(name, careful):
    started, other = (replace(UNTESTED, **{name: value}) for value in (careful, not careful))
    with pytest.raises(ValueError, match=f'{name} is {not careful}, expected {careful}, as the'):
        parameters.changed(started, [Parameter(name, value=not careful)], started)
    assert parameters.changed(other, [Parameter(name, value=careful)], other) == started


def test_the_limits_of_a_stop_are_fixed_while_the_node_runs():
    for name in ('stop_deceleration_m_s2', 'stop_jerk_m_s3'):
        assert parameters.BY_NAME[name].read_only


def test_parameters_beyond_the_profile_are_told_at_the_start():
    node = Declaring(max_linear_speed_m_s=0.5, workspace_high_m=[0.3, 0.9, 0.4])
    parameters.declare_settings(node)
    (warning,) = node.warnings
    assert 'max_linear_speed_m_s is 0.5, beyond the 0.25 of the profile' in warning


def test_a_command_rate_is_refused_at_which_the_limits_cannot_be_kept():
    assert parameters.BY_NAME['command_rate_hz'].low == 10.0
