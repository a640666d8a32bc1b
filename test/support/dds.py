"""Real processes and real DDS for the tests: a node in its own process and a client node."""

from contextlib import contextmanager
import os
import sys
import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from sqap_vla_ros.system.child_process import (
    ChildProcess,
    isolated_environment,
    pick_domain_id,
    wait_until,
)

DISCOVERY_TIMEOUT_S = 30.0


def start_node(module, tmp_path, domain_id, *arguments):
    """Start `python -m module --ros-args arguments` with its log in tmp_path."""
    command = [sys.executable, '-m', module, '--ros-args', *arguments]
    return ChildProcess(
        module, command, tmp_path / f'{module}.log', isolated_environment(domain_id)
    )


def domain():
    """Pick the domain of a test: ROS_DOMAIN_ID if it is set, otherwise an unused one."""
    return int(os.environ.get('ROS_DOMAIN_ID') or unused_domain())


def unused_domain():
    """Pick an unused domain that no other worker of pytest-xdist picks at the same moment."""
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    own = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    while True:
        picked = pick_domain_id()
        if picked % workers == own:
            return picked


def domains(count):
    """Pick domains for tests that run demonstrations side by side."""
    if os.environ.get('ROS_DOMAIN_ID'):
        return [domain() + 1 + index for index in range(count)]
    picked = set()
    while len(picked) < count:
        picked.add(unused_domain())
    return sorted(picked)


class Client(Node):
    """A node that spins in a thread and keeps the messages of every topic it listens to."""

    def __init__(self, context):
        super().__init__('test_client', context=context)
        self.received = {}

    def ask(self, send, timeout_s=DISCOVERY_TIMEOUT_S):
        """Call `send` in the executor's thread and return the result of its future."""
        # rclpy's action client loses a response that another thread takes before the request is
        # registered.
        sent = self.executor.create_task(send)
        assert wait_until(lambda: sent.done() and sent.result().done(), timeout_s)
        return sent.result().result()

    def listen(self, kind, topic, qos=10):
        """Keep the messages of a topic from now on."""
        messages = self.received[topic] = []
        self.create_subscription(kind, topic, messages.append, qos)
        return messages

    def wait_for(self, topic, count=1, timeout_s=DISCOVERY_TIMEOUT_S):
        """Wait for `count` new messages and return the last one."""
        messages = self.received[topic]
        wanted = len(messages) + count
        assert wait_until(lambda: len(messages) >= wanted, timeout_s), (
            f'{len(messages) - wanted + count} of {count} messages on {topic}'
        )
        return messages[-1]

    def call(self, kind, name, request, timeout_s=DISCOVERY_TIMEOUT_S):
        """Call a service and return its response."""
        client = self.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f'no service {name}'
        future = client.call_async(request)
        assert wait_until(future.done, timeout_s), f'no response from {name}'
        self.destroy_client(client)
        return future.result()


@contextmanager
def client_node(domain_id):
    """Make a Client that spins in a thread."""
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id)
    client = Client(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(client)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        yield client
    finally:
        executor.shutdown()
        thread.join(5)
        client.destroy_node()
        rclpy.try_shutdown(context=context)
