"""MoveIt Servo and joint_trajectory_controller are asked for the parameters that spoil motion."""

from contextlib import contextmanager

import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla_ros.profiles.robot_profile import Output
from sqap_vla_ros.ros.policy_node import controller_check
from sqap_vla_ros.ros.policy_node.controller_check import ControllerCheck, SERVO_PARAMETER

from support.dds import client_node, domain, wait_until
from support.outputs import JOINTS, profile

PATIENCE_S = 30


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(controller_check, 'PERIOD_S', 0.2)


@contextmanager
def controllers(client, **parameters):
    """Run nodes of these names, with these parameters."""
    nodes = []
    for name, values in parameters.items():
        # As a controller of ros2_control: it answers for parameters that it does not have, too.
        node = Node(name, context=client.context, allow_undeclared_parameters=True)
        for parameter, value in values.items():
            node.declare_parameter(parameter, value)
        client.executor.add_node(node)
        nodes.append(node)
    try:
        yield nodes
    finally:
        for node in nodes:
            client.executor.remove_node(node)
            node.destroy_node()


def trajectory(name, kind='joint_trajectory'):
    return Output(kind, f'{name}/joint_trajectory', joints=JOINTS, horizon_s=0.1)


def problems_of(client, *outputs, space='joint_velocity'):
    """Return the problems once every node has answered."""
    check = ControllerCheck(client, profile(*outputs, space=space))
    asked = check._questions

    def answered():
        check.tick()
        return asked and set(check._problems) == set(asked)

    assert wait_until(answered, PATIENCE_S, 0.02)
    return check.problems


def test_a_servo_that_scales_its_commands_is_named(client):
    with controllers(
        client,
        unitless={SERVO_PARAMETER: 'unitless'},
        speed={SERVO_PARAMETER: 'speed_units'},
    ):
        (problem,) = problems_of(
            client,
            Output('twist_stamped', '/unitless/delta_twist_cmds'),
            Output('twist_stamped', 'speed/delta_twist_cmds'),
            Output('twist_stamped', 'other/twist'),
            space='twist',
        )
    assert "/unitless: its parameter moveit_servo.command_in_type is 'unitless'" in problem


GOOD = {'joints': list(JOINTS), 'interpolate_from_desired_state': True}


@pytest.mark.parametrize(
    'kind, parameters, words',
    [
        ('joint_trajectory', GOOD, ()),
        ('joint_trajectory', {'joints': list(JOINTS), 'open_loop_control': True}, ()),
        (
            'joint_trajectory',
            {'joints': list(JOINTS)},
            ('/jtc: its parameter interpolate_from_desired_state is not true', 'set it to true'),
        ),
        (
            'joint_trajectory',
            GOOD | {'joints': ['joint_1', 'joint_2']},
            ('/jtc: its parameter joints is joint_1, joint_2', 'shoulder, elbow'),
        ),
        ('joint_trajectory', GOOD | {'interpolation_method': 'splines'}, ()),
        ('joint_trajectory', GOOD | {'interpolation_method': 'none'}, ("set it to 'splines'",)),
        ('joint_trajectory_chunk', GOOD, ('positions_upsampling.enable is not true',)),
        (
            'joint_trajectory_chunk',
            {'joints': [*reversed(JOINTS)], 'positions_upsampling.enable': True},
            (),
        ),
        ('joint_trajectory', {'interpolate_from_desired_state': False}, ()),
    ],
    ids=[
        'as it should be',
        'Humble',
        'default',
        'other joints',
        'splines',
        'no interpolation',
        'no upsampling',
        'upsampling',
        'another kind of controller',
    ],
)
def test_parameters_of_the_trajectory_controller_are_judged(client, kind, parameters, words):
    with controllers(client, jtc=parameters):
        problems = problems_of(client, trajectory('jtc', kind))
    assert len(problems) == bool(words)
    for word in words:
        assert word in problems[0]


def test_a_remapped_topic_leads_to_its_controller():
    rules = ['--ros-args', '-r', 'jtc/joint_trajectory:=/cell/arm/joint_trajectory']
    with client_node(domain()) as client:
        node = Node('remapped', context=client.context, cli_args=rules)
        assert list(ControllerCheck(node, profile(trajectory('jtc')))._questions) == ['/cell/arm']
        node.destroy_node()


def test_without_a_controller_nothing_is_said_and_nothing_is_waited_for(client):
    check = ControllerCheck(client, profile(trajectory('absent')))
    assert not wait_until(lambda: (check.tick(), check.problems)[-1], 0.5, 0.05)


def test_a_controller_that_does_not_answer_is_asked_again(client):
    with controllers(client, hanging={}) as (node,):
        node.destroy_service(
            next(s for s in node.services if s.srv_name.endswith('/get_parameters'))
        )
        asked = []

        def hang(request, response):
            asked.append(request)
            return response if len(asked) < 3 else full(request, response)

        def full(request, response):
            response.values = node_values(client, request)
            return response

        node.create_service(GetParameters, 'hanging/get_parameters', hang)
        check = ControllerCheck(client, profile(trajectory('hanging')))
        assert wait_until(lambda: (check.tick(), check.problems)[-1], PATIENCE_S, 0.02)
    assert len(asked) >= 3


def node_values(client, request):
    """Return the values of a controller with the defaults."""
    given = {'joints': list(JOINTS), 'interpolate_from_desired_state': False}
    return [
        Parameter(name, value=given[name]).get_parameter_value()
        if name in given
        else Parameter(name).get_parameter_value()
        for name in request.names
    ]


def test_the_problem_goes_when_the_controller_is_started_again(client):
    check = ControllerCheck(client, profile(trajectory('again')))
    with controllers(client, again={'joints': list(JOINTS)}):
        assert wait_until(lambda: (check.tick(), check.problems)[-1], PATIENCE_S, 0.02)
    with controllers(client, again=GOOD):
        assert wait_until(lambda: (check.tick(), not check.problems)[-1], PATIENCE_S, 0.02)
