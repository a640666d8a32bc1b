"""MoveIt Servo is asked for the unit of its commands, by its parameter service."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from rclpy.node import Node

from sqap_vla_ros.profiles.robot_profile import Output
from sqap_vla_ros.ros.policy_node.servo_check import PARAMETER, ServoCheck

from support.dds import client_node, domain, wait_until
from support.outputs import profile

OUTPUTS = (
    Output('twist_stamped', '/unitless/delta_twist_cmds'),
    Output('twist_stamped', 'speed/delta_twist_cmds'),
    Output('twist_stamped', 'other/twist'),
)


@pytest.fixture
def client():
    with client_node(domain()) as client:
        yield client


def test_a_servo_that_scales_its_commands_is_named_once(client, monkeypatch):
    warnings = []
    monkeypatch.setattr(client, 'get_logger', lambda: SimpleNamespace(warning=warnings.append))
    check = ServoCheck(client, profile(*OUTPUTS, space='twist'))
    check.tick()
    servos = []
    for name, units in (('unitless', 'unitless'), ('speed', 'speed_units')):
        servo = Node(name, context=client.context)
        servo.declare_parameter(PARAMETER, units)
        client.executor.add_node(servo)
        servos.append(servo)

    def ticked():
        check.tick()
        return warnings and not check._clients

    assert wait_until(ticked, 30, 0.05)
    assert wait_until(lambda: len(warnings) > 1, 0.5) is False
    (warning,) = warnings
    assert "/unitless: its parameter moveit_servo.command_in_type is 'unitless'" in warning
    for servo in servos:
        servo.destroy_node()
