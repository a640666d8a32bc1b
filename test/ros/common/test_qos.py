"""Users change the quality of service of a subscription by parameters."""

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, ReliabilityPolicy
from sensor_msgs.msg import Image

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.common.parameter_checks import argument_problems
from sqap_vla_ros.ros.common.qos import subscribe

from support.dds import domain

PREFIX = 'qos_overrides./left/seen.subscription.'


@pytest.fixture
def make_node():
    contexts = []

    def make(*words):
        arguments = ['arm', '--ros-args', '-r', 'image:=seen']
        for word in words:
            arguments += ['-p', PREFIX + word]
        context = rclpy.Context()
        rclpy.init(args=arguments, context=context, domain_id=domain())
        contexts.append(context)
        return Node('arm', namespace='/left', context=context), arguments

    yield make
    for context in contexts:
        rclpy.shutdown(context=context)


def test_overrides_are_used_for_the_remapped_topic_also_when_it_is_subscribed_again(make_node):
    node, arguments = make_node('reliability:=reliable', 'depth:=7', 'durability:=transient_local')
    for _ in range(2):
        subscription = subscribe(node, Image, 'image', print, qos_profile_sensor_data)
        qos = subscription.qos_profile
        assert qos.reliability == ReliabilityPolicy.RELIABLE and qos.depth == 7
        assert qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        node.destroy_subscription(subscription)
    subscribe(node, Image, 'image', print, 3)
    assert qos_profile_sensor_data.reliability == ReliabilityPolicy.BEST_EFFORT
    assert not argument_problems(node, arguments)


def test_a_misspelt_override_is_told(make_node):
    node, arguments = make_node('reliabilty:=reliable')
    subscribe(node, Image, 'image', print, 1)
    (problem,) = argument_problems(node, arguments)
    assert f"did you mean '{PREFIX}reliability'?" in problem.text


@pytest.mark.parametrize('word', ['reliability:=yes', 'depth:=-1', 'depth:=deep', 'depth:=0'])
def test_an_override_that_no_quality_of_service_has_is_one_line(make_node, word):
    node, _ = make_node(word)
    with pytest.raises(UserError, match=f'^parameters {PREFIX}.*expected reliability: reliable'):
        subscribe(node, Image, 'image', print, 1)
    assert not list(node.subscriptions)
