"""Two arms in one world of Gazebo: what carries the namespace, in the files that ship."""

from xml.etree import ElementTree

import pytest
import yaml

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.gazebo import bridge_file, CONTROLLERS_FILE, namespaced_description

GRIPPER = 'gripper_command'


@pytest.fixture
def gazebo(repository):
    """Folder of the Gazebo example."""
    return repository / 'config' / 'gazebo'


def test_without_a_namespace_only_the_file_is_filled_in(gazebo):
    urdf = (gazebo / 'arm.urdf').read_text('utf-8')
    assert namespaced_description(urdf, '/c.yaml') == (
        urdf.replace(CONTROLLERS_FILE, '/c.yaml'),
        frozenset(),
    )
    assert bridge_file(str(gazebo / 'bridge.yaml')) == str(gazebo / 'bridge.yaml')


@pytest.mark.parametrize('namespace', ['left', '/left/'])
def test_the_second_arm_has_its_own_controllers_and_topics(gazebo, namespace):
    urdf = (gazebo / 'arm.urdf').read_text('utf-8')
    made = namespaced_description(urdf, '/c.yaml', namespace)
    assert made.topics == {GRIPPER}
    robot = ElementTree.fromstring(made.urdf)
    control, gripper = robot.findall('gazebo/plugin')
    assert control.findtext('parameters') == '/c.yaml'
    assert control.findtext('ros/namespace') == '/left'
    assert gripper.findtext('topic') == f'left/{GRIPPER}' and gripper.find('ros') is None
    file = bridge_file(str(gazebo / 'bridge.yaml'), made.topics, namespace, clock=False)
    with open(file, encoding='utf-8') as bridge:
        topics = {e['ros_topic_name']: e['gz_topic_name'] for e in yaml.safe_load(bridge)}
    # The camera belongs to the world, and whoever starts the simulator bridges its clock.
    assert topics == {
        'camera/image_raw': 'camera/image_raw',
        'camera/camera_info': 'camera/camera_info',
        GRIPPER: f'left/{GRIPPER}',
    }


def test_what_a_description_says_itself_stays():
    urdf = (
        '<robot name="r"><gazebo><plugin filename="libgz_ros2_control-system.so" name="p">'
        '<ros><namespace>/own</namespace></ros></plugin><sensor name="s" type="camera">'
        '<topic>/everywhere</topic></sensor></gazebo></robot>'
    )
    made = namespaced_description(urdf, '', 'left')
    assert made.topics == frozenset()
    assert '/own' in made.urdf and '/left' not in made.urdf and '>/everywhere<' in made.urdf


@pytest.mark.parametrize('text', ['{a: 1}', 'just words', '[1, 2]', '{', '- a: &x [*x]\n: :'])
def test_a_wrong_bridge_file_is_one_line(tmp_path, text):
    file = tmp_path / 'bridge.yaml'
    file.write_text(text, 'utf-8')
    with pytest.raises(UserError, match=r'bridge\.yaml.*expected'):
        bridge_file(str(file), clock=False)


def test_a_broken_description_is_one_line():
    with pytest.raises(UserError, match='robot description: not well-formed XML'):
        namespaced_description('<robot>', '', 'left')
