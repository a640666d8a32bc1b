"""What `sqap_vla bench --ros` and `--control` make of the stamps that they see."""

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TwistStamped
import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.msg import ActionChunk, InferenceStats
from sqap_vla_ros.ros.common.messages import header
from sqap_vla_ros.system.command_latency import CommandLatency
from sqap_vla_ros.system.command_timing import report


class StandInClient:
    """Keeps what listens."""

    def __init__(self):
        self.callbacks = {}

    def listen(self, kind, topic, callback):
        self.callbacks[kind] = callback

    def send(self, kind, stamp_ms=0, **fields):
        message = kind(**fields)
        message.header = header(1_000_000_000 + round(stamp_ms * 1e6), 'base')
        self.callbacks[kind](message)


def test_a_chunk_is_as_late_as_the_first_command_behind_it():
    client = StandInClient()
    latency = CommandLatency(client)
    client.send(TwistStamped, 5)
    client.send(ActionChunk, 10)
    client.send(InferenceStats, 10, total_latency_ms=30.0)
    client.send(TwistStamped, 50)
    client.send(TwistStamped, 70)
    client.send(ActionChunk, 60)
    client.send(TwistStamped, 90)
    assert latency.latencies_ms == pytest.approx([40, 30])
    found = latency.report()
    assert found['chunks'] == 2 and found['image_to_command_ms']['p50'] == 35
    assert found['inference_ms']['p100'] == 30


def test_without_a_chunk_there_is_no_latency_to_report():
    latency = CommandLatency(StandInClient())
    with pytest.raises(UserError, match='no chunk'):
        latency.report()


def test_deviation_of_the_period_is_told_beside_that_of_a_bare_loop():
    commands = np.full(200, 20.0)
    commands[::50] = 24.0
    found = report(commands, np.full(200, 20.5), 50.0)
    assert found['commands'] == 201
    assert found['command_deviation_p50_ms'] == 0 and found['command_deviation_max_ms'] == 4
    assert found['p99_above_bare_ms'] == pytest.approx(3.5)
