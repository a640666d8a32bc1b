"""Files that no test here can run are at least what they should be: Gazebo, RViz, CI, Docker."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from sqap_vla_ros.profiles.reading import read_profile
from sqap_vla_ros.profiles.urdf import check_against_urdf, read_urdf
from sqap_vla_ros.ros.gazebo import namespaced_description


@pytest.fixture
def gazebo(repository):
    """Folder of the Gazebo example."""
    return repository / 'config' / 'gazebo'


def test_gazebo_profile_agrees_with_its_robot(gazebo):
    profile, problems = read_profile(gazebo / 'profile.yaml')
    assert problems == [] and profile.simulated
    assert check_against_urdf(profile, read_urdf(gazebo / 'arm.urdf')) == []


def test_gazebo_controllers_command_what_profile_and_robot_have(gazebo):
    profile, _ = read_profile(gazebo / 'profile.yaml')
    controllers = yaml.safe_load((gazebo / 'controllers.yaml').read_text('utf-8'))
    (output,) = profile.outputs
    name = output.topic.split('/')[0]
    # In any namespace: a key without /** reaches only nodes in the root namespace.
    assert name in controllers['/**/controller_manager']['ros__parameters']
    controller = controllers[f'/**/{name}']['ros__parameters']
    assert tuple(controller['joints']) == output.joints
    assert controller['interpolate_from_desired_state'] is True
    robot = ElementTree.parse(gazebo / 'arm.urdf')
    control = {
        joint.get('name'): [c.get('name') for c in joint.findall('command_interface')]
        for joint in robot.find('ros2_control').findall('joint')
    }
    assert all(control[joint] == ['position'] for joint in output.joints)


def checked(command, file):
    """Run a validator on a file; returns what it says."""
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    return done.returncode, f'{done.stdout}{done.stderr}'


def test_gazebo_itself_finds_no_mistake_in_the_world(gazebo):
    programs = [program for program in ('gz', 'ign') if shutil.which(program)]
    tries = [checked([program, 'sdf', '-k'], gazebo / 'world.sdf') for program in programs]
    said = [text for _, text in tries if 'Valid' in text or 'Error' in text]
    if not said:
        pytest.skip('no `gz sdf` here (Debian: ignition-tools and libsdformat-dev)')
    assert 'Valid.' in said[0] and 'Error' not in said[0] and 'Warning' not in said[0], said[0]


def test_urdfdom_finds_no_mistake_in_the_robot(gazebo, tmp_path):
    if shutil.which('check_urdf') is None:
        pytest.skip('no check_urdf here (Debian: liburdfdom-tools)')
    urdf = (gazebo / 'arm.urdf').read_text('utf-8')
    file = tmp_path / 'left.urdf'
    file.write_text(namespaced_description(urdf, 'controllers.yaml', 'left').urdf, 'utf-8')
    for each in (gazebo / 'arm.urdf', file):
        code, text = checked(['check_urdf'], each)
        assert code == 0 and 'Error' not in text, text


def test_gazebo_bridge_passes_on_what_world_and_profile_use(gazebo):
    profile, _ = read_profile(gazebo / 'profile.yaml')
    bridge = {
        entry['ros_topic_name']: entry
        for entry in yaml.safe_load((gazebo / 'bridge.yaml').read_text('utf-8'))
    }
    (camera,) = profile.cameras
    world = ElementTree.parse(gazebo / 'world.sdf')
    sensor = world.find('.//sensor')
    assert bridge[camera.topic]['gz_topic_name'] == sensor.findtext('topic')
    info = bridge[camera.info_topic]['gz_topic_name']
    assert info == sensor.findtext('camera/camera_info_topic')
    assert sensor.findtext('gz_frame_id') == camera.optical_frame
    gripper = profile.gripper.outputs[0].topic
    topic = ElementTree.parse(gazebo / 'arm.urdf').findtext('.//plugin/topic')
    assert bridge[gripper]['direction'] == 'ROS_TO_GZ'
    assert bridge[gripper]['gz_topic_name'] == topic
    assert '/clock' in bridge


def test_gazebo_camera_pose_in_the_profile_is_that_of_the_world(gazebo):
    import numpy as np
    from scipy.spatial.transform import Rotation

    profile, _ = read_profile(gazebo / 'profile.yaml')
    world = ElementTree.parse(gazebo / 'world.sdf')
    values = [float(v) for v in world.findtext(".//model[@name='camera']/pose").split()]
    body = Rotation.from_euler('xyz', values[3:])
    optical = Rotation.from_quat(profile.cameras[0].pose.quaternion_xyzw)
    assert list(profile.cameras[0].pose.position_m) == values[:3]
    assert optical.apply([0, 0, 1]) == pytest.approx(body.apply([1, 0, 0]), abs=1e-3)
    assert optical.apply([1, 0, 0]) == pytest.approx(np.array(body.apply([0, -1, 0])), abs=1e-3)


def test_rviz_shows_topics_that_the_node_publishes(repository):
    view = yaml.safe_load((repository / 'config/rviz/policy.rviz').read_text('utf-8'))
    topics = {
        display['Topic']['Value']
        for display in view['Visualization Manager']['Displays']
        if 'Topic' in display
    }
    reports = (repository / 'sqap_vla_ros/ros/policy_node/reports.py').read_text('utf-8')
    for topic in topics - {'end_effector_pose'}:
        assert f"'{topic.replace('policy_node/', '~/')}'" in reports, topic


def test_the_workflow_builds_all_three_distributions(repository):
    workflow = yaml.safe_load((repository / '.github/workflows/ros.yaml').read_text('utf-8'))
    assert workflow['jobs']['colcon']['strategy']['matrix']['distro'] == [
        'humble',
        'jazzy',
        'lyrical',
    ]
    assert (repository / '.ci' / 'run').exists()


@pytest.mark.parametrize('name', ['Dockerfile', '.github/workflows/ros.yaml'])
def test_requirement_files_that_are_named_exist(repository, name):
    text = (repository / name).read_text('utf-8')
    named = re.findall(r'requirements/[\w.\-]+\.txt', text)
    assert named and all((repository / path).exists() for path in named)
