"""Gripper goals to a stand-in for the action of a gripper controller."""

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from rclpy.task import Future

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.robot_profile import Gripper, GripperOutput, Output
from sqap_vla_ros.ros.policy_node.outputs import gripper as gripper_outputs
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs
from sqap_vla_ros.ros.policy_node.outputs.gripper import GripperAction

from support.dds import wait_until
from support.outputs import joint_command, JOINTS, profile


def test_a_gripper_action_without_control_msgs_says_what_to_install(client, monkeypatch):
    monkeypatch.setitem(sys.modules, 'control_msgs.action', None)
    with pytest.raises(UserError, match='control-msgs, or use type: float64'):
        GripperAction(client, GripperOutput('gripper_command', 'gripper/gripper_cmd'))


class ActionServer:
    """Stands in for control_msgs, and for a client of an action."""

    class Goal:
        """A goal of the action."""

        def __init__(self):
            self.command = SimpleNamespace()

    ready, accepts = True, True

    def __init__(self, *_):
        self.goals = []

    def server_is_ready(self):
        return self.ready

    def send_goal_async(self, goal):
        self.goals.append(goal.command.position)
        future = Future()
        future.set_result(SimpleNamespace(accepted=self.accepts))
        return future


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(gripper_outputs, '_action_type', lambda _: ActionServer)
    made = ActionServer()
    monkeypatch.setattr(gripper_outputs, 'ActionClient', lambda *_: made)
    return made


def test_a_goal_that_the_gripper_rejects_is_told(server):
    told = []
    node = SimpleNamespace(
        get_logger=lambda: SimpleNamespace(warning=lambda text, **_: told.append(text))
    )
    action = GripperAction(node, GripperOutput('gripper_command', 'hand', max_effort=1.0))
    action.send(0.04)
    assert told == []
    server.accepts = False
    action.send(85.0)
    assert 'the action hand rejects the goal 85' in told[0]


def test_a_goal_waits_for_a_gripper_that_starts_late(client, server):
    hand = Gripper('', 0.0, 1.0, (GripperOutput('gripper_command', 'hand', 0.04, 0.0),))
    outputs = AllOutputs(
        client, profile(Output('joint_state', 'late', joints=JOINTS), gripper=hand)
    )
    server.ready = False
    outputs.publish(joint_command(gripper=1.0))
    server.ready = True
    for _ in range(3):
        outputs.publish(joint_command(gripper=1.0))
    assert server.goals == [0.0]


@pytest.mark.parametrize('kind', ['gripper_command', 'parallel_gripper_command'])
def test_a_gripper_action_sends_goals_in_the_grippers_units(client, kind):
    actions = pytest.importorskip(
        'control_msgs.action', reason='control_msgs is not installed (ros-<distro>-control-msgs)'
    )
    name = 'GripperCommand' if kind == 'gripper_command' else 'ParallelGripperCommand'
    if not hasattr(actions, name):
        pytest.skip(f'this control_msgs has no {name}')
    from rclpy.action import ActionServer

    goals = []

    def execute(handle):
        goals.append(handle.request.command)
        handle.succeed()
        return getattr(actions, name).Result()

    server = ActionServer(client, getattr(actions, name), f'{kind}/command', execute)
    gripper = Gripper(
        'finger',
        0.04,
        0.0,
        (GripperOutput(kind, f'{kind}/command', 0.04, 0.0, max_effort=20.0, joint='finger'),),
    )
    outputs = AllOutputs(
        client, profile(Output('joint_state', 'arm2', joints=JOINTS), gripper=gripper)
    )
    for _ in range(100):
        outputs.repeat_gripper()
        outputs.publish(joint_command(gripper=0.5))
        if wait_until(lambda: goals, 0.1, 0.01):
            break
    server.destroy()
    if kind == 'gripper_command':
        assert goals[-1].position == pytest.approx(0.02) and goals[-1].max_effort == 20.0
    else:
        assert list(goals[-1].name) == ['finger']
        assert list(goals[-1].position) == pytest.approx([0.02])
        assert list(goals[-1].effort) == [20.0]
