"""Each problem of the graph around a node is told by name, with what to do about it."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import Twist, TwistStamped
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from sqap_vla_ros.ros.common.graph_checks import (
    GraphChecks,
    RESTARTED_S,
    shared_topics,
    SOON_S,
    TWIN_S,
)
from sqap_vla_ros.ros.common.qos import LATCHED, subscribe

from support.dds import domain, wait_until

RELIABLE = QoSProfile(depth=1)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
TWIST, STAMPED = 'geometry_msgs/msg/Twist', 'geometry_msgs/msg/TwistStamped'


def info(name, kind, qos=RELIABLE, namespace='/left'):
    return SimpleNamespace(
        node_name=name, node_namespace=namespace, topic_type=kind, qos_profile=qos
    )


class StandIn:
    """A node /left/arm that reads /left/image and commands /left/twist."""

    def __init__(self, reads=Image, topic='image', qos=BEST_EFFORT):
        self.subscriptions = [
            SimpleNamespace(
                topic=topic, topic_name=f'/left/{topic}', msg_type=reads, qos_profile=qos
            )
        ]
        self.publishers = [
            SimpleNamespace(
                topic='twist',
                topic_name='/left/twist',
                msg_type=TwistStamped,
                qos_profile=RELIABLE,
            )
        ]
        self.publish = {'/left/twist': [info('arm', STAMPED)]}
        self.listen = {'/left/twist': [info('servo', STAMPED)]}
        self.nodes, self.services = ['arm', 'servo', 'camera'], []
        self.parameters = set()

    def resolve_topic_name(self, topic):
        return f'/left/{topic}'

    resolve_service_name = resolve_topic_name

    def get_publishers_info_by_topic(self, topic):
        return self.publish.get(topic, [])

    def get_subscriptions_info_by_topic(self, topic):
        return self.listen.get(topic, [])

    def count_publishers(self, topic):
        return len(self.publish.get(topic, []))

    def count_subscribers(self, topic):
        return len(self.listen.get(topic, []))

    def get_node_names_and_namespaces(self):
        return [(name, '/left') for name in self.nodes]

    def get_service_names_and_types(self):
        return self.services

    def has_parameter(self, name):
        return name in self.parameters

    def get_name(self):
        return 'arm'

    def get_namespace(self):
        return '/left'


def found(node, unserved=tuple, heard=True):
    return GraphChecks(node, ['twist'], heard, unserved).problems()


def one(node, *words, **options):
    (problem,) = found(node, **options)
    assert problem.text.startswith(problem.subject) or problem.kind in (
        'name',
        'commands',
        'publishers',
    )
    for word in words:
        assert word in problem.text
    return problem


@pytest.mark.parametrize(
    ('publishers', 'words'),
    [
        ([('arm', '/left')], None),
        ([('arm', '/left'), ('teleop', '/left')], '/left/twist: also published by /left/teleop'),
        ([('arm', '/left'), ('arm', '/')], 'also published by /arm;'),
        ([('arm', '/left')] * 2, 'also published by another node named /left/arm'),
        ([('arm', '/left'), ('a\n\x1b[2J' * 99, '/')], r'also published by /a\n\x1b[2J'),
    ],
)
def test_every_other_source_of_commands_is_named(publishers, words):
    node = StandIn()
    node.publish['/left/twist'] = [info(name, STAMPED, namespace=ns) for name, ns in publishers]
    if words is None:
        assert not found(node)
    else:
        assert len(one(node, words).text) < 250


def test_a_node_of_the_same_name_is_told_once_with_what_it_commands():
    node = StandIn()
    node.nodes.append('arm')
    problem = one(node, 'another node is named /left/arm', '-r __node:=')
    assert problem.patience_s == TWIN_S
    node.publish['/left/twist'] *= 2
    one(node, '/left/twist: also published by another node named /left/arm')


def test_publishers_of_another_type_are_told_also_beside_the_right_one():
    node = StandIn()
    node.publish['/left/image'] = [info('camera', IMAGE), info('codec', COMPRESSED)]
    problem = one(node, f'{COMPRESSED} is published there by /left/codec, expected {IMAGE}')
    assert 'transport: compressed' in problem.text and problem.patience_s == 0
    node = StandIn(CompressedImage)
    node.publish['/left/image'] = [info('camera', IMAGE)]
    one(node, f'{IMAGE} is published there by /left/camera', 'transport: raw')


@pytest.mark.parametrize('topic', ['image', 'instruction', 'task_success', 'camera/camera_info'])
def test_two_publishers_of_any_input_are_told_when_they_stay(topic):
    node = StandIn(topic=topic)
    node.publish[f'/left/{topic}'] = [info('camera', IMAGE)] * 2
    assert one(node, '2 publishers (/left/camera)').patience_s == RESTARTED_S
    node.publish[f'/left/{topic}'] = [info(f'n{index}', IMAGE) for index in range(9)]
    problem = one(node, '9 publishers (/left/n0, /left/n1, /left/n2 and 6 more)')
    assert problem.patience_s == SOON_S


def test_a_crowd_is_counted_without_a_look_at_each():
    node = StandIn()
    for topic in ('/left/image', '/left/twist'):
        node.publish[topic] = range(1000)
    node.listen['/left/twist'] = range(1000)
    texts = [problem.text for problem in found(node)]
    assert ['1000 publishers, expected' in text for text in texts] == [True, True]


def test_a_graph_that_cannot_be_read_is_a_line_and_no_error():
    node = StandIn()
    node.get_node_names_and_namespaces = lambda: b'\xff'.decode()
    (problem,) = found(node)
    assert problem.text.startswith('the graph cannot be read: UnicodeDecodeError')


def test_a_second_robot_is_one_line_for_all_of_its_topics():
    node = StandIn()
    node.subscriptions += StandIn(topic='depth').subscriptions
    for topic in ('/left/image', '/left/depth'):
        node.publish[topic] = [info('driver', IMAGE), info('fake', IMAGE)]
    one(node, '/left/image, /left/depth: 2 publishers (/left/driver, /left/fake)')


def test_publishers_that_offer_too_little_are_told_with_the_parameter_that_asks_for_less():
    node = StandIn(qos=RELIABLE)
    node.publish['/left/image'] = [info('camera', IMAGE, BEST_EFFORT), info('other', IMAGE)]
    problem = one(node, 'the reliability of a publisher is incompatible: /left/camera offers')
    assert 'qos_overrides' not in problem.text
    node.parameters.add('qos_overrides./left/image.subscription.reliability')
    one(node, '-p qos_overrides./left/image.subscription.reliability:=best_effort')
    node = StandIn(qos=LATCHED)
    node.publish['/left/image'] = [info('camera', IMAGE)]
    one(node, 'the durability of a publisher is incompatible', 'transient_local is requested')


def test_transforms_come_from_many_nodes():
    node = StandIn()
    node.subscriptions[0].topic_name = '/tf'
    node.publish['/tf'] = [info('a', IMAGE), info('b', IMAGE)]
    assert not found(node)


def test_a_clock_that_nobody_publishes_is_told():
    node = StandIn(Clock, topic='clock')
    node.subscriptions[0].topic = '/clock'
    assert one(node, '/left/clock: nobody publishes it', 'use_sim_time').patience_s == SOON_S
    node.publish['/left/clock'] = [info('bridge', 'rosgraph_msgs/msg/Clock')]
    assert not found(node)


@pytest.mark.parametrize(
    ('listeners', 'words'),
    [
        ([], 'nobody listens to the commands'),
        ([info('_ros2cli_12', STAMPED)], 'nobody listens to the commands'),
        (
            [info('servo', TWIST)],
            f'/left/servo listens for {TWIST}, and the commands are {STAMPED}',
        ),
        ([info('servo', STAMPED, LATCHED)], 'the durability that /left/servo requests'),
        ([info('view', TWIST), info('servo', STAMPED)], None),
        ([info('_NODE_NAME_UNKNOWN_', STAMPED)], None),
    ],
)
def test_commands_that_nobody_takes_are_told_unless_nobody_should(listeners, words):
    node = StandIn()
    node.listen['/left/twist'] = listeners
    assert not found(node, heard=False)
    if words is None:
        assert not found(node)
    else:
        assert one(node, '/left/twist: ', words).patience_s == SOON_S


def test_a_gripper_action_that_nobody_serves_is_told():
    def unserved():
        return ['grip']

    node = StandIn()
    one(node, '/left/grip: nobody serves this action;', unserved=unserved)
    node.services = [('/left/grip/_action/send_goal', ['a/action/Other_SendGoal'])]
    one(node, 'with the type of the profile, but a/action/Other_SendGoal', unserved=unserved)


def test_an_input_that_is_an_output_after_remapping_is_named():
    node = StandIn()
    assert not shared_topics(node, ['joint_states', 'image'], ['commands'])
    (problem,) = shared_topics(node, ['joint_states', 'image'], ['commands', 'joint_states'])
    assert problem.startswith("/left/joint_states is the input 'joint_states' and the output ")


@pytest.fixture
def make_node():
    """Make nodes in participants of their own: one cannot have two types on a topic."""
    nodes, number = [], domain()

    def make(name, *arguments):
        context = rclpy.Context()
        rclpy.init(
            args=['x', '--ros-args', *arguments] if arguments else [],
            context=context,
            domain_id=number,
        )
        nodes.append(Node(name, context=context))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
        rclpy.shutdown(context=node.context)


def test_the_graph_of_the_middleware_is_read_so(make_node):
    override = 'qos_overrides./image.subscription.reliability'
    arm = make_node('arm', '-p', f'{override}:=reliable', '-r', 'instruction:=/say')
    subscribe(arm, Image, 'image', print, BEST_EFFORT)
    subscribe(arm, CameraInfo, 'camera_info', print, BEST_EFFORT)
    subscribe(arm, String, 'instruction', print, 1)
    arm.create_publisher(TwistStamped, 'twist', 1)
    assert BEST_EFFORT.reliability == ReliabilityPolicy.BEST_EFFORT  # rclpy changes a copy
    checks = GraphChecks(arm, ['twist'], heard=True)

    def told():
        return '\n'.join(sorted(problem.text for problem in checks.problems()))

    assert told() == (
        '/twist: nobody listens to the commands; start the controller, or remap the topic, or '
        'name its topic in the profile'
    )
    other = make_node('other')
    other.create_publisher(Image, 'image', BEST_EFFORT)
    other.create_publisher(CompressedImage, 'camera_info', 1)
    other.create_publisher(TwistStamped, 'twist', 1)
    other.create_subscription(Twist, 'twist_other', print, 1)
    twin = make_node('arm', '-r', 'twist:=unused')
    for node in (other, twin):
        node.create_publisher(String, 'say', 1)
    wanted = (
        f'/image: the reliability of a publisher is incompatible: /other offers best_effort, '
        f'reliable is requested, so its messages do not arrive; change it there, or start this '
        f'node with -p {override}:=best_effort',
        f'/camera_info: {COMPRESSED} is published there by /other, expected sensor_msgs/msg/Cam',
        '/twist: also published by /other; stop it',
        '/say: 2 publishers (/arm, /other)',
        'another node is named /arm',
    )
    assert wait_until(lambda: all(words in told() for words in wanted), 20), told()
    assert len(checks.problems()) == len(wanted) + 1
    for publisher in list(other.publishers):
        other.destroy_publisher(publisher)
    assert wait_until(lambda: len(checks.problems()) == 2, 20), told()
