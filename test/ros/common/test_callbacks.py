"""Errors in callbacks of a real node: each is reported, and the node goes on."""

import os
import time

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.node import Node
from std_msgs.msg import Int8, String
from std_srvs.srv import SetBool, Trigger

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.ros.common.callbacks import describe, GuardedExecutor

from support.dds import domain


class Guarded:
    """A node that talks to itself, its executor, and the reports of it."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain())
        self.node = Node('guarded', context=self.context)
        self.reports = []
        self.executor = GuardedExecutor(
            lambda *report: self.reports.append(report), context=self.context
        )
        self.executor.add_node(self.node)

    def until(self, condition):
        end_s = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end_s, self.reports
            self.executor.spin_once(0.1)

    def names(self):
        return [(name, refused) for name, _, refused in self.reports]


@pytest.fixture
def guarded():
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    guarded = Guarded()
    yield guarded
    guarded.executor.shutdown()
    guarded.node.destroy_node()
    rclpy.try_shutdown(context=guarded.context)


def broken(*_):
    raise MemoryError('no memory\nfor this')


@pytest.mark.parametrize('reason', ['callback', 'unreadable'])
def test_a_message_that_fails_is_skipped_and_the_next_is_heard(guarded, monkeypatch, reason):
    heard = []

    def take(message):
        heard.append(message)
        if reason == 'callback' and len(heard) == 1:
            broken()

    publisher = guarded.node.create_publisher(String, 'words', 10)
    guarded.node.create_subscription(String, 'words', take, 10)
    guarded.until(publisher.get_subscription_count)
    if reason == 'unreadable':  # depends on the middleware, so it is made up
        monkeypatch.setattr(guarded.executor, '_take_subscription', broken)
    publisher.publish(String(data='first'))
    guarded.until(lambda: guarded.reports)
    monkeypatch.undo()
    assert guarded.names() == [('/words', True)]
    publisher.publish(String(data='second'))
    guarded.until(lambda: heard and heard[-1].data == 'second')


def test_a_service_that_fails_answers_no_and_says_why(guarded):
    guarded.node.create_service(Trigger, 'act', broken)
    guarded.node.create_service(SetBool, 'set', lambda request, response: 'no response')
    for kind, name in ((Trigger, 'act'), (Trigger, 'act'), (SetBool, 'set')):
        client = guarded.node.create_client(kind, name)
        guarded.until(client.service_is_ready)
        future = client.call_async(kind.Request())
        if name == 'set':  # what is no response cannot be sent
            guarded.until(lambda: len(guarded.reports) == 3)
            break
        guarded.until(future.done)
        assert not future.result().success
        assert 'MemoryError: no memory for this' in future.result().message
    assert {refused for _, refused in guarded.names()} == {True}


def test_a_timer_that_fails_is_called_again_and_is_no_mere_refusal(guarded):
    guarded.node.create_timer(0.01, broken)
    guarded.until(lambda: len(guarded.reports) >= 3)
    assert set(guarded.names()) == {('timer broken', False)}


def test_an_action_server_that_fails_serves_on(guarded):
    server = ActionServer(
        guarded.node, ExecuteInstruction, 'do', execute_callback=broken, goal_callback=broken
    )
    client = ActionClient(guarded.node, ExecuteInstruction, 'do')
    heard = []
    guarded.node.create_subscription(Int8, 'numbers', heard.append, 10)
    publisher = guarded.node.create_publisher(Int8, 'numbers', 10)
    guarded.until(lambda: client.server_is_ready() and publisher.get_subscription_count())
    for _ in range(2):
        client.send_goal_async(ExecuteInstruction.Goal())
        count = len(guarded.reports)
        guarded.until(lambda count=count: len(guarded.reports) > count)
    assert set(guarded.names()) == {('ActionServer', False)}
    publisher.publish(Int8(data=1))
    guarded.until(lambda: heard)
    client.destroy()
    server.destroy()


def test_an_error_is_described_in_one_printable_line_with_its_place():
    try:
        broken()
    except MemoryError as error:
        assert describe(error).startswith('MemoryError: no memory for this (test_callbacks.py:')
    text = describe(ValueError('\x1b[2J' + 'x' * 100_000))
    assert text.isprintable() and len(text) < 1000
