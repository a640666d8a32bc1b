"""Each output over DDS to a stand-in for the controller that it is made for."""

from dataclasses import replace
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

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
from sqap_vla_ros.ros.policy_node.outputs.joint_reference import JointReference, MAX_LEAD
from sqap_vla_ros.ros.policy_node.outputs.registry import (
    ARM_OUTPUTS,
    GRIPPER_OUTPUTS,
    register_output,
)

from support.dds import client_node, domain, wait_until
from support.outputs import joint_command, JOINTS, profile

TESTS = Path(__file__).resolve().parents[2]
ORDER = ('elbow', 'shoulder')
"""The controller's order, which is not the profile's."""


@pytest.fixture(scope='module')
def client():
    with client_node(domain()) as client:
        yield client


def receive(client, kind, topic, outputs, command):
    """Publish until the stand-in has a message; returns it and the time around it."""
    messages = client.listen(kind, topic)
    for _ in range(200):
        before_ns = client.get_clock().now().nanoseconds
        outputs.publish(command)
        if wait_until(lambda: messages, 0.1, 0.01):
            return messages[-1], before_ns
    raise AssertionError(f'nothing on {topic}')


def assert_stamped_at_publishing(client, message, frame):
    age_s = (client.get_clock().now().nanoseconds - stamp_to_ns(message.header.stamp)) / 1e9
    assert 0 <= age_s < 5.0
    assert message.header.frame_id == frame


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


def test_trajectories_end_at_standstill_within_the_horizon(client):
    outputs = AllOutputs(
        client, profile(Output('joint_trajectory', 'jtc', joints=ORDER, horizon_s=0.1))
    )
    message, _ = receive(client, JointTrajectory, 'jtc', outputs, joint_command())
    assert_stamped_at_publishing(client, message, 'base_link')
    assert tuple(message.joint_names) == ORDER
    times = [stamp_to_ns(point.time_from_start) / 1e9 for point in message.points]
    assert times == [0.05, 0.1]
    moving, last = message.points
    assert list(moving.velocities) == [-0.25, 0.5] and list(last.velocities) == [0.0, 0.0]
    way = np.array(last.positions) - np.array(moving.positions)
    assert way == pytest.approx([-0.25 * 0.025, 0.5 * 0.025])


class StandInTrajectoryController:
    """Follows the last trajectory as joint_trajectory_controller does: cubic, by its stamp."""

    def __init__(self, client, topic):
        self.accepted, self.problems = [], []
        self._clock = client.get_clock()
        client.create_subscription(JointTrajectory, topic, self._receive, 1)

    def _receive(self, message):
        times = [stamp_to_ns(point.time_from_start) for point in message.points]
        end_ns = stamp_to_ns(message.header.stamp) + times[-1]
        if sorted(set(times)) != times or sorted(message.joint_names) != sorted(JOINTS):
            self.problems.append('times do not grow, or joints are missing')
        elif any(message.points[-1].velocities):
            self.problems.append('velocity at the end is not zero')
        elif end_ns >= self._clock.now().nanoseconds:  # late ones are dropped
            self.accepted.append((end_ns, message))

    def position(self, joint):
        """Where the arm is now on the last trajectory."""
        _, message = self.accepted[-1]
        index = list(message.joint_names).index(joint)
        now_s = (self._clock.now().nanoseconds - stamp_to_ns(message.header.stamp)) / 1e9
        points = [
            (stamp_to_ns(p.time_from_start) / 1e9, p.positions[index], p.velocities[index])
            for p in message.points
        ]
        first, last = points[0], points[-1]
        if now_s <= first[0]:
            return first[1] - first[2] * (first[0] - now_s)
        if now_s >= last[0]:
            return last[1]
        u = (now_s - first[0]) / (last[0] - first[0])
        slope = first[2] * (last[0] - first[0])
        return (
            first[1] + slope * (u - 2 * u**2 + u**3) + (last[1] - first[1]) * (3 * u**2 - 2 * u**3)
        )


def test_after_sigkill_the_arm_stands_within_the_horizon(client):
    controller = StandInTrajectoryController(client, 'killed')
    environment = dict(
        os.environ,
        ROS_DOMAIN_ID=str(client.context.get_domain_id()),
        PYTHONPATH=os.pathsep.join([str(TESTS), os.environ.get('PYTHONPATH', '')]),
    )
    process = subprocess.Popen([sys.executable, '-m', 'support.doomed_publisher'], env=environment)
    try:
        assert wait_until(lambda: len(controller.accepted) >= 10, 60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed_ns = client.get_clock().now().nanoseconds
    time.sleep(0.5)
    assert not controller.problems
    end_ns, message = controller.accepted[-1]
    assert end_ns <= killed_ns + 200_000_000
    stopped = controller.position('shoulder')
    assert stopped == message.points[-1].positions[0]
    time.sleep(0.2)
    assert controller.position('shoulder') == stopped


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
    assert np.array(message.data) == pytest.approx([0.2, 0.1], abs=MAX_LEAD)


def test_joint_states_name_position_and_velocity(client):
    outputs = AllOutputs(client, profile(Output('joint_state', 'commands', joints=ORDER)))
    message, _ = receive(client, JointState, 'commands', outputs, joint_command())
    assert_stamped_at_publishing(client, message, 'base_link')
    assert list(message.name) == list(ORDER) and list(message.velocity) == [-0.25, 0.5]
    assert np.array(message.position) == pytest.approx([0.2, 0.1], abs=MAX_LEAD)


def test_nothing_is_sent_while_a_joint_is_unknown(client):
    outputs = AllOutputs(
        client,
        profile(
            Output('joint_state', 'unknown', joints=JOINTS),
            Output('float64_multi_array', 'known', joints=JOINTS, interface='velocity'),
        ),
    )
    messages = client.listen(JointState, 'unknown')
    receive(
        client,
        Float64MultiArray,
        'known',
        outputs,
        JointCommand({'shoulder': 0.1, 'elbow': 0.1}, {'shoulder': 0.0}),
    )
    assert not messages


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


def test_the_reference_integrates_from_the_measurement_and_never_runs_away():
    clock = SimpleNamespace(now=0.0)
    reference = JointReference(lambda: clock.now)
    command = joint_command(shoulder=1.0, elbow=0.0)
    assert reference.advance(command) == {'shoulder': 0.1, 'elbow': 0.2}
    clock.now += 0.02
    assert reference.advance(command)['shoulder'] == pytest.approx(0.12)
    for _ in range(100):  # the arm is blocked
        clock.now += 0.02
        held = reference.advance(command)
    assert held['shoulder'] == pytest.approx(0.1 + MAX_LEAD)


def test_standing_still_keeps_what_was_commanded_so_that_the_arm_does_not_sag():
    clock = SimpleNamespace(now=0.0)
    reference = JointReference(lambda: clock.now)
    still = joint_command(0.0, 0.0)
    reference.advance(still)
    for sag in np.linspace(0, 0.05, 100):
        clock.now += 0.02
        held = reference.advance(replace(still, positions={'shoulder': 0.1 - sag, 'elbow': 0.2}))
    assert held == {'shoulder': 0.1, 'elbow': 0.2}
