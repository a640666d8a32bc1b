"""What a profile does to the policy node: defaults, consent, joint-space outputs."""

import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.srv import ChangeState
import numpy as np
from std_msgs.msg import Float64, String
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.ros.policy_node import parameters
from sqap_vla_ros.ros.policy_node.inputs import LATCHED_QOS

from support.dds import client_node, domain, start_node, wait_until
from support.robot import Robot

MODULE = 'sqap_vla_ros.ros.policy_node.node'
PATIENCE_S = 240
SLIDES = ('slide_x', 'slide_y', 'slide_z')
UNTESTED = {'profile': 'ur5e', 'acknowledge_untested_profile': False, 'dry_run': False}


def test_the_simulated_arm_is_what_the_parameters_describe_by_default():
    defaults = {name: setting.default for name, setting in parameters.BY_NAME.items()}
    from_profile = parameters.profile_defaults(load_profile('sim_sawyer'))
    assert from_profile == {name: defaults[name] for name in from_profile}


def test_an_untested_profile_needs_an_acknowledgement_or_a_dry_run():
    untested = load_profile('ur5e')
    with pytest.raises(UserError, match='acknowledge_untested_profile:=true'):
        parameters.check_acknowledged(UNTESTED, untested)
    for name in ('acknowledge_untested_profile', 'dry_run'):
        parameters.check_acknowledged({**UNTESTED, name: True}, untested)
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


@pytest.mark.timeout(2 * PATIENCE_S)
def test_a_policy_drives_joints_by_trajectories(random_policy, gantry, tmp_path):
    domain_id = domain()
    process = start_node(
        MODULE,
        tmp_path,
        domain_id,
        '-p',
        f'policy:={random_policy}',
        '-p',
        f'profile:={gantry}',
        '-p',
        'start_on_instruction:=true',
        '-p',
        'inference_deadline_s:=20.0',
        '-p',
        'observation_timeout_s:=5.0',
    )
    try:
        with client_node(domain_id) as client:
            robot = Gantry(client)
            trajectories = client.listen(JointTrajectory, 'arm_controller/joint_trajectory', 100)
            client.listen(Float64, 'gripper_command')
            states = client.listen(String, 'policy_node/state', LATCHED_QOS)
            for transition in (1, 3):  # configure, activate
                request = ChangeState.Request()
                request.transition.id = transition
                answer = client.call(ChangeState, 'policy_node/change_state', request, PATIENCE_S)
                assert answer.success, process.log.read_text()[-2000:]

            def moved():
                robot.instruction.publish(String(data='open the drawer'))
                return len(trajectories) > 20

            assert wait_until(moved, PATIENCE_S, 0.3), states[-1:]
            robot.close()
    finally:
        process.stop()
    velocities = np.array(
        [point.velocities for message in trajectories for point in message.points]
    )
    assert all(tuple(message.joint_names) == SLIDES for message in trajectories)
    assert all(message.header.frame_id == 'base' for message in trajectories)
    assert all(not any(message.points[-1].velocities) for message in trajectories)
    assert np.abs(velocities).max() <= 0.25 + 1e-9
    assert not robot.twists and 'Traceback' not in process.log.read_text()
