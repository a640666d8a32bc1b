"""What of a command line reaches nobody is told; the rules are those of rcl."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.action import ActionServer
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.ros.common.parameter_checks import (
    argument_problems,
    reaches,
    ros_arguments,
    unmatched_files,
    unused_parameters,
)

from support.dds import domain

PATTERNS = (
    *('arm', '/arm', '/left/arm', 'left/arm', '/**', '**', '*', '/*', '/*/*', '/*/arm', '*/arm'),
    *('/left/*', '/right/*', '/left/**', '/right/**', '/**/arm', '/**/left/arm', '/*/**'),
    *('/*/**/arm', '/left/*/arm', '/left/**/arm', '/**/**', '/arm/**', '/a/left/*', '/lef/arm'),
)


class Arm(Node):
    """A node with a topic of each kind, and names that it makes later."""

    def __init__(self, context, namespace='/left', name='arm'):
        super().__init__(name, namespace=namespace, context=context)
        self.declare_parameter('rate_hz', 1.0)
        self.create_publisher(String, 'commands', 1)
        self.create_subscription(String, '/camera/image', print, 1)
        self.create_service(Trigger, '~/save', print)
        self.create_client(Trigger, 'ask')

    def expected_names(self):
        return ['later']

    def expected_actions(self):
        return ['grip']

    def expected_parameters(self):
        return ['later_hz']


@pytest.fixture
def started():
    contexts = []

    def start(*arguments):
        context = rclpy.Context()
        rclpy.init(args=['arm', '--ros-args', *arguments], context=context, domain_id=domain())
        contexts.append(context)
        return context

    yield start
    for context in contexts:
        rclpy.shutdown(context=context)


def lines_of(started, *arguments, namespace='/left'):
    node = Arm(started(*arguments), namespace)
    try:
        problems = argument_problems(node, ['arm', '--ros-args', *arguments], 'arm')
        return [problem.text for problem in problems]
    finally:
        node.destroy_node()


def test_names_with_wildcards_reach_the_nodes_that_rcl_gives_them_to(started, tmp_path):
    path = tmp_path / 'parameters.yaml'
    path.write_text(
        '\n'.join(
            f"'{pattern}': {{ros__parameters: {{p{index}: 1}}}}"
            for index, pattern in enumerate(PATTERNS)
        )
    )
    context = started('--params-file', str(path))
    for namespace, name in (('/', 'arm'), ('/left', 'arm'), ('/a/left', 'arm'), ('/', 'right')):
        node = Node(name, namespace=namespace, context=context)
        full = node.get_fully_qualified_name()
        given = set(node._parameter_overrides)
        node.destroy_node()
        assert given == {f'p{i}' for i, known in enumerate(PATTERNS) if reaches(known, full)}


def test_a_misspelt_parameter_is_named_with_the_one_that_was_meant():
    node = SimpleNamespace(
        _parameters={'max_linear_speed_m_s': 0, 'policy': 0},
        _parameter_overrides={'max_linear_sped_m_s': 0, 'policy': 0, 'zzz': 0, 'later': 0},
    )
    misspelt, foreign = unused_parameters(node, ['later'])
    assert "'max_linear_sped_m_s'" in misspelt and "'max_linear_speed_m_s'?" in misspelt
    assert "'zzz'" in foreign and 'doc/parameters.md' in foreign


@pytest.mark.parametrize(
    ('text', 'matches'),
    [
        ('policy_node: {ros__parameters: {a: 1}}', False),
        ('left: {policy_node: {ros__parameters: {a: 1}}}', True),
        ('/**: {ros__parameters: {a: 1}}', True),
        ('/right/*: {ros__parameters: {a: 1}}', False),
        ('{/left/other: {ros__parameters: {a: 1}}, /left/*: {ros__parameters: {a: 1}}}', True),
    ],
)
def test_a_file_for_another_node_is_told(tmp_path, text, matches):
    path = tmp_path / 'parameters.yaml'
    path.write_text(text)
    rules = ros_arguments(['policy_node', '--ros-args', '--params-file', str(path)])
    lines = unmatched_files(rules, '/left/policy_node')
    assert (not lines) if matches else (str(path) in lines[0] and '/left/policy_node' in lines[0])


def test_only_what_rcl_reads_is_looked_at():
    words = ['x', '-r', 'a:=b', '--ros-args', '-r', 'c:=d', '--param', 'e:=1', '--', '-p', 'f:=1']
    assert list(ros_arguments([*words, '--ros-args', '--remap', 'g:=h', '-p'])) == [
        ('-r', 'c:=d'),
        ('-p', 'e:=1'),
        ('-r', 'g:=h'),
    ]


@pytest.mark.parametrize(
    ('rule', 'words'),
    [
        ('commands:=x', None),
        ('/left/commands:=x', None),
        ('arm:commands:=x', None),
        ('rostopic://commands:=x', None),
        ('/camera/image:=x', None),
        ('~/save:=x', None),
        ('ask:=x', None),
        ('later:=x', None),
        ('grip/_action/send_goal:=x', None),
        ('/tf:=tf', None),
        ('__ns:=/left', None),
        ('comands:=x', 'did you mean /left/commands?'),
        ('/commands:=x', 'no topic, service or action /commands'),
        ('camera/image:=x', 'did you mean /camera/image?'),
        ('my_image:=/camera/image', 'the old name comes first: -r /camera/image:=my_image'),
        (
            'other:commands:=x',
            "-r 'other:commands:=x': is for the node other, and this one is arm",
        ),
        ('other:__node:=x', 'is for the node other'),
    ],
)
def test_a_remapping_that_renames_nothing_is_told(started, rule, words):
    lines = lines_of(started, '-r', rule)
    assert not lines if words is None else (len(lines) == 1 and words in lines[0])


@pytest.mark.parametrize('rule', ['grip:=x', 'arm:grip:=x'])
def test_an_action_that_keeps_its_name_is_told(started, rule):
    node = Arm(started('-r', rule))
    try:
        server = ActionServer(node, ExecuteInstruction, 'grip', print)
        lines = argument_problems(node, ['arm', '--ros-args', '-r', rule], 'arm')
        served = dict(node.get_service_names_and_types_by_node('arm', '/left'))
        server.destroy()
    finally:
        node.destroy_node()
    renamed = '/left/grip/_action/send_goal' not in served  # not by rcl up to Jazzy
    told = [line.text for line in lines]
    assert len(told) == (0 if renamed else 1)
    assert renamed or 'does not rename actions, so it is still /left/grip;' in told[0]


def test_a_node_that_is_renamed_keeps_its_old_name_for_the_rule_that_renames_it(started):
    arguments = ('-r', 'arm:__node:=other', '-r', 'other:commands:=x', '-r', 'arm:ask:=x')
    (line,) = lines_of(started, *arguments)
    assert 'ask' in line and 'this one is other' in line


def test_a_parameter_for_another_node_is_told(started):
    lines = lines_of(
        started, '-p', 'other:rate_hz:=2.0', '-p', 'later_hz:=1', '-p', 'rate_hz:=2.0'
    )
    assert len(lines) == 1 and 'is for the node /other, and this one is /left/arm' in lines[0]
    assert 'write -p rate_hz:=' in lines[0]
    (line,) = lines_of(started, '-p', 'arm:rate_hz:=2.0')  # of /arm, which is in no namespace
    assert 'is for the node /arm, and this one is /left/arm' in line
    assert not lines_of(started, '-p', 'arm:rate_hz:=2.0', namespace='/')
