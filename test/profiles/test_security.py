"""The SROS2 policy of a profile: well-formed, and no wider than each process needs."""

from fnmatch import fnmatchcase
import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.security import node_access, QUALIFIERS, resolve, security_policy

SHIPPED = ('sim_sawyer', 'sim_sawyer_compressed', 'ur5e', 'franka_fr3', 'so101')
SIMULATION = {'robot_nodes': ['sim_arm_node'], 'camera_nodes': ['sim_arm_node']}


def enclaves(text):
    """Path of each enclave to {qualifier: names}."""
    found = {}
    for enclave in ElementTree.fromstring(text).iter('enclave'):
        rights = found[enclave.get('path')] = {}
        for several in enclave.find('profiles/profile'):
            ((qualifier, verdict),) = several.items()
            assert verdict == 'ALLOW' and several.tag == f'{QUALIFIERS[qualifier]}s'
            assert qualifier not in rights
            rights[qualifier] = [name.text for name in several]
    return found


def allowed(rights, qualifier, name):
    return any(fnmatchcase(name, pattern) for pattern in rights.get(qualifier, ()))


@pytest.mark.parametrize('name', SHIPPED)
@pytest.mark.parametrize('namespace', ['/', '/left'])
def test_nobody_but_the_policy_node_may_command_and_nobody_but_the_operator_it(name, namespace):
    profile = load_profile(name)
    found = enclaves(security_policy(profile, namespace))
    paths = {key: resolve(key, namespace) for key in ('policy_node', 'operator', 'camera')}
    assert set(found) == {*paths.values(), resolve('robot', namespace)}
    node, operator, camera = (found[path] for path in paths.values())
    stops = [resolve(f'~/{stop}', namespace) for stop in ('resume', 'estop', 'set_parameters')]
    grippers = [o for o in profile.gripper.outputs if o.kind != 'float64']
    topics = [output.topic for output in profile.outputs]
    topics += [o.topic for o in profile.gripper.outputs if o.kind == 'float64']
    for topic in topics:
        commands = resolve(topic, namespace)
        assert allowed(node, 'publish', commands)
        assert not allowed(operator, 'publish', commands)
        assert not allowed(camera, 'publish', commands)
    for gripper in grippers:
        action = resolve(gripper.topic, namespace)
        assert allowed(node, 'call', action)
        assert not allowed(operator, 'call', action) and not allowed(camera, 'call', action)
    for service in stops:
        assert allowed(node, 'reply', service) and allowed(operator, 'request', service)
        assert 'request' not in camera and not allowed(camera, 'reply', service)
    goals = resolve('execute_instruction', namespace)
    assert allowed(node, 'execute', goals) and allowed(operator, 'call', goals)
    assert 'call' not in camera and not allowed(camera, 'publish', goals)
    instruction = resolve('instruction', namespace)
    assert allowed(operator, 'publish', instruction)
    assert not allowed(camera, 'publish', instruction)


def test_an_arm_in_a_namespace_shares_only_the_topics_of_all():
    profile = load_profile('ur5e')
    left, right = (node_access(profile, side) for side in ('/left', '/right'))
    shared = {'/rosout', '/parameter_events', '/diagnostics'}
    assert left.publish & right.publish == shared
    assert left.subscribe & right.subscribe == {'/clock', '/tf', '/tf_static'}
    assert not left.reply & right.reply and not left.execute & right.execute


def test_a_robot_that_is_its_own_camera_has_one_enclave():
    found = enclaves(security_policy(load_profile('sim_sawyer'), **SIMULATION))
    assert set(found) == {'/policy_node', '/operator', '/robot'}
    for topic in ('/camera/image_raw', '/camera/image_raw/compressed', '/clock', '/task_success'):
        assert allowed(found['/robot'], 'publish', topic)
    assert allowed(found['/robot'], 'reply', '/sim_arm_node/reset')


def test_the_shipped_policy_is_that_of_the_simulated_arm(repository):
    """Made by the command that its own documentation names."""
    shipped = (repository / 'config' / 'security' / 'sim_sawyer.xml').read_text('utf-8')
    assert shipped == security_policy(load_profile('sim_sawyer'), **SIMULATION)


def test_the_command_prints_the_policy(capsys):
    words = ['profile', 'security', 'ur5e', '--namespace', 'left', '--camera-node', '/cam/driver']
    assert main(words) == 0
    assert allowed(enclaves(capsys.readouterr().out)['/left/camera'], 'reply', '/cam/driver/x')


@pytest.mark.parametrize(
    'arguments, words',
    [
        ({'namespace': 'left arm'}, "namespace 'left arm': not a valid name"),
        ({'robot_nodes': ['*']}, r"node '\*': not a valid name"),
        ({'camera_nodes': ['~/camera']}, "node '~/camera': expected the name of another node"),
    ],
)
def test_a_wrong_name_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        security_policy(load_profile('ur5e'), **arguments)


@pytest.mark.parametrize('name', SHIPPED)
def test_sros2_accepts_the_policy(name, tmp_path):
    package = importlib.util.find_spec('sros2')
    if package is None:
        pytest.skip('SROS2 is not installed')
    etree = pytest.importorskip('lxml.etree', reason='lxml is not installed')
    schema = etree.parse(str(Path(package.origin).parent / 'policy' / 'schemas' / 'policy.xsd'))
    for element in schema.iter('{*}import', '{*}attribute'):
        if element.tag.endswith('import') or element.get('ref'):  # xml:base, from the network
            element.getparent().remove(element)
    file = tmp_path / 'policy.xml'
    file.write_text(security_policy(load_profile(name), 'left'), 'utf-8')
    etree.XMLSchema(schema).assertValid(etree.parse(str(file)))
