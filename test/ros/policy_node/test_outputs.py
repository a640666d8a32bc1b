"""Each output over DDS to a stand-in for the controller that it is made for."""

from dataclasses import replace
import time

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TwistStamped
import numpy as np
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from sqap_vla_ros.control.command import Command
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import (
    Gripper,
    GripperOutput,
    JOINT_OUTPUTS,
    Output,
    TWIST_OUTPUTS,
)
from sqap_vla_ros.profiles.robot_profile import GRIPPER_OUTPUTS as GRIPPER_TYPES
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs, FINAL_HOLDS
from sqap_vla_ros.ros.policy_node.outputs.registry import (
    ARM_OUTPUTS,
    GRIPPER_OUTPUTS,
    register_output,
)

from support.dds import wait_until
from support.outputs import (
    assert_stamped_at_publishing,
    joint_command,
    JOINTS,
    ORDER,
    profile,
    receive,
)


def test_twists_for_servo_have_frame_units_and_publish_time_stamps(client):
    outputs = AllOutputs(
        client, profile(Output('twist_stamped', 'servo/delta_twist_cmds'), space='twist')
    )
    command = Command((0.1, -0.2, 0.3), (0.4, -0.5, 0.6))
    message, _ = receive(client, TwistStamped, 'servo/delta_twist_cmds', outputs, command)
    assert_stamped_at_publishing(client, message, 'base_link')
    twist = message.twist
    assert (twist.linear.x, twist.linear.y, twist.linear.z) == (0.1, -0.2, 0.3)
    assert (twist.angular.x, twist.angular.y, twist.angular.z) == (0.4, -0.5, 0.6)
    messages = client.received['servo/delta_twist_cmds']
    time.sleep(0.3)
    outputs.publish(command)  # the same command again: with a new stamp, or Servo would drop it
    assert wait_until(
        lambda: (
            stamp_to_ns(messages[-1].header.stamp)
            >= stamp_to_ns(message.header.stamp) + 200_000_000
        ),
        5,
    )


def test_a_twist_is_turned_into_the_frame_of_the_end_effector(client):
    """The tool looks down, turned by pi about x, and is turned by 90 degrees about its own z."""
    outputs = AllOutputs(
        client,
        profile(
            Output('twist_stamped', 'framed', frame='tool'),
            Output('twist_stamped', 'unframed', frame='base_link'),
            space='twist',
        ),
    )
    unframed = client.listen(TwistStamped, 'unframed')
    turned = Rotation.from_euler('x', np.pi) * Rotation.from_euler('z', np.pi / 2)
    outputs.measure_orientation(turned.as_quat())
    command = Command([0.1, 0, 0.02], [0, 0.3, 0])
    message, _ = receive(client, TwistStamped, 'framed', outputs, command)
    assert message.header.frame_id == 'tool'
    linear, angular = twist_parts(message)
    assert linear == pytest.approx([0, -0.1, -0.02], abs=1e-12)
    assert angular == pytest.approx([-0.3, 0, 0], abs=1e-12)
    assert wait_until(lambda: unframed, 5)
    assert unframed[-1].header.frame_id == 'base_link'
    assert twist_parts(unframed[-1])[0] == [0.1, 0, 0.02]
    # Half a turn further about the tool's z: the newest orientation counts.
    outputs.measure_orientation((turned * Rotation.from_euler('z', np.pi)).as_quat())
    message, _ = receive(client, TwistStamped, 'framed', outputs, command)
    assert twist_parts(message)[0] == pytest.approx([0, 0.1, -0.02], abs=1e-12)


def test_without_a_measured_orientation_only_a_stop_goes_out(client):
    outputs = AllOutputs(
        client, profile(Output('twist_stamped', 'unmeasured', frame='tool'), space='twist')
    )
    command = Command([0.1, 0, 0], [0, 0, 0.2])
    message, _ = receive(client, TwistStamped, 'unmeasured', outputs, command)
    assert twist_parts(message) == ([0, 0, 0], [0, 0, 0])


@pytest.mark.parametrize('changed', [{}, {'base_frame': 'base'}])
def test_an_output_in_any_other_frame_is_refused(client, changed):
    """Also where the parameter base_frame replaces the frame of the profile."""
    frame = 'base_link' if changed else 'flange'
    robot = replace(
        profile(Output('twist_stamped', 'refused', frame=frame), space='twist'), **changed
    )
    with pytest.raises(UserError, match=f"refused: frame is '{frame}', expected base_frame 'base"):
        AllOutputs(client, robot)


def twist_parts(message):
    linear, angular = message.twist.linear, message.twist.angular
    return [linear.x, linear.y, linear.z], [angular.x, angular.y, angular.z]


def test_arrays_follow_the_order_of_the_controller(client):
    outputs = AllOutputs(
        client,
        profile(
            Output('float64_multi_array', 'forward_velocity', joints=ORDER, interface='velocity'),
            Output('float64_multi_array', 'forward_position', joints=ORDER),
        ),
    )
    message, _ = receive(client, Float64MultiArray, 'forward_velocity', outputs, joint_command())
    assert list(message.data) == [-0.25, 0.5]
    message, _ = receive(
        client, Float64MultiArray, 'forward_position', outputs, joint_command(0.0, 0.0)
    )
    assert list(message.data) == [0.2, 0.1]


def test_joint_states_name_position_and_velocity(client):
    outputs = AllOutputs(client, profile(Output('joint_state', 'commands', joints=ORDER)))
    message, _ = receive(client, JointState, 'commands', outputs, joint_command())
    assert_stamped_at_publishing(client, message, 'base_link')
    assert list(message.name) == list(ORDER) and list(message.velocity) == [-0.25, 0.5]
    assert list(message.position) == [0.2, 0.1]


def test_positions_are_not_sent_while_they_are_unknown(client):
    outputs = AllOutputs(
        client,
        profile(
            Output('joint_state', 'unknown', joints=JOINTS),
            Output('float64_multi_array', 'unknown_too', joints=JOINTS),
            Output('float64_multi_array', 'known', joints=JOINTS, interface='velocity'),
        ),
    )
    messages = client.listen(JointState, 'unknown')
    arrays = client.listen(Float64MultiArray, 'unknown_too')
    receive(
        client,
        Float64MultiArray,
        'known',
        outputs,
        JointCommand({'shoulder': 0.1, 'elbow': 0.1}),
    )
    assert not messages and not arrays


def test_a_gripper_topic_gets_its_own_range_on_change_only(client):
    gripper = Gripper('finger', 0.04, 0.0, (GripperOutput('float64', 'grip', 0.04, 0.0),))
    outputs = AllOutputs(
        client, profile(Output('joint_state', 'arm', joints=JOINTS), gripper=gripper)
    )
    values = client.listen(Float64, 'grip')
    for _ in range(100):
        outputs.repeat_gripper()
        outputs.publish(joint_command(gripper=0.25))
        if wait_until(lambda: values, 0.1, 0.01):
            break
    assert values[-1].data == pytest.approx(0.03)
    time.sleep(0.3)
    count = len(values)
    for _ in range(5):
        outputs.publish(joint_command(gripper=0.25))
    outputs.publish(joint_command(gripper=1.0))
    assert wait_until(lambda: len(values) == count + 1, 5)
    assert values[-1].data == pytest.approx(0.0)


def test_a_dry_run_sends_nothing_to_the_controllers(client):
    gripper = Gripper('', 0.0, 1.0, (GripperOutput('gripper_command', '/hand/grip', 0.04, 0.0),))
    outputs = AllOutputs(
        client,
        profile(Output('joint_state', 'wet/arm', joints=JOINTS), gripper=gripper),
        dry_run=True,
    )
    wet = client.listen(JointState, 'wet/arm')
    grips = client.listen(Float64, 'test_client/dry_run/hand/grip')
    outputs.repeat_gripper()
    receive(client, JointState, 'test_client/dry_run/wet/arm', outputs, joint_command(gripper=0.5))
    assert wait_until(
        lambda: (outputs.repeat_gripper(), outputs.publish(joint_command(gripper=0.5)), grips)[-1],
        10,
    )
    assert grips[-1].data == pytest.approx(0.02) and not wet


@pytest.mark.parametrize('space', ['twist', 'joint_velocity'])
def test_the_final_hold_is_standstill_several_times(client, space):
    kind, message_type = (
        ('twist_stamped', TwistStamped) if space == 'twist' else ('joint_state', JointState)
    )
    outputs = AllOutputs(
        client, profile(Output(kind, f'hold_{space}', joints=JOINTS), space=space)
    )
    moving = Command((0.1, 0, 0), (0, 0, 0)) if space == 'twist' else joint_command()
    receive(client, message_type, f'hold_{space}', outputs, moving)
    messages = client.received[f'hold_{space}']
    time.sleep(0.3)
    count = len(messages)
    outputs.final_hold()
    assert wait_until(lambda: len(messages) == count + FINAL_HOLDS, 5)
    for message in messages[count:]:
        still = [message.twist.linear.x] if space == 'twist' else list(message.velocity)
        assert not any(still)


def test_the_final_hold_leaves_the_position_to_an_arm_that_is_not_where_commands_lead(client):
    """Its controller was deactivated, for example: a position would make it jump later."""
    outputs = AllOutputs(
        client,
        profile(
            Output('joint_state', 'withdrawn', joints=JOINTS),
            Output('joint_trajectory', 'withdrawn_too', joints=JOINTS),
            Output('float64_multi_array', 'still', joints=JOINTS, interface='velocity'),
        ),
    )
    messages = client.listen(JointState, 'withdrawn')
    trajectories = client.listen(JointTrajectory, 'withdrawn_too')
    lost = JointCommand({'shoulder': 0.1, 'elbow': 0.1})
    receive(client, Float64MultiArray, 'still', outputs, lost)
    velocities = client.received['still']
    time.sleep(0.3)
    count = len(velocities)
    outputs.final_hold()
    assert wait_until(lambda: len(velocities) == count + FINAL_HOLDS, 5)
    assert not any(any(message.data) for message in velocities[count:])
    assert not messages and not trajectories


def test_profiles_and_the_registry_know_the_same_outputs():
    assert set(TWIST_OUTPUTS + JOINT_OUTPUTS) == set(ARM_OUTPUTS)
    assert set(GRIPPER_TYPES) == set(GRIPPER_OUTPUTS)


class CountingOutput:
    """An adapter as another package would write it."""

    def __init__(self, node, output, profile):
        self.topic, self.sent = output.topic, []
        made.append(self)

    def publish(self, command, stamp):
        self.sent.append((command, stamp))


made: list[CountingOutput] = []


@pytest.fixture
def registered():
    """Register `CountingOutput` for twists; leave no trace."""
    register_output('counting', CountingOutput)
    yield
    del ARM_OUTPUTS['counting']
    TWIST_OUTPUTS.remove('counting')
    made.clear()


def test_an_output_of_another_package_can_be_named_in_a_profile(
    client, registered, repository, tmp_path
):
    text = (repository / 'config/robots/sim_sawyer.yaml').read_text('utf-8')
    path = tmp_path / 'counted.yaml'
    path.write_text(text.replace('type: twist_stamped', 'type: counting'), 'utf-8')
    outputs = AllOutputs(client, load_profile(str(path)))
    command = Command((0.1, 0, 0), (0, 0, 0))
    outputs.publish(command)
    assert [output.topic for output in made] == ['twist_command']
    assert made[0].sent[0][0] is command
    with pytest.raises(ValueError, match='registered already'):
        register_output('counting', CountingOutput)


def test_an_output_that_is_not_registered_is_a_problem_of_the_profile(repository, tmp_path):
    text = (repository / 'config/robots/sim_sawyer.yaml').read_text('utf-8')
    path = tmp_path / 'unknown.yaml'
    path.write_text(text.replace('type: twist_stamped', 'type: counting'), 'utf-8')
    with pytest.raises(UserError, match="'counting', expected one of twist_stamped"):
        load_profile(str(path))
