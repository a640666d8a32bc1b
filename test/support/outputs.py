"""A robot profile with two joints and commands for it, for the tests of the outputs."""

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Action, Gripper, Joint, RobotProfile
from sqap_vla_ros.ros.common.messages import stamp_to_ns

from support.dds import wait_until

JOINTS = ('shoulder', 'elbow')
ORDER = ('elbow', 'shoulder')
"""The controller's order, which is not the profile's."""
NO_GRIPPER = Gripper()


def profile(*outputs, space='joint_velocity', gripper=NO_GRIPPER):
    return RobotProfile(
        'arm',
        'base_link',
        'tool',
        (),
        outputs,
        joints=tuple(Joint(name, 'revolute', -2.0, 2.0, 1.0, 5.0) for name in JOINTS),
        action=Action(space),
        gripper=gripper,
    )


def joint_command(shoulder=0.5, elbow=-0.25, gripper=None):
    return JointCommand(
        {'shoulder': shoulder, 'elbow': elbow},
        {'elbow': 0.2, 'shoulder': 0.1, 'other': 9.0},
        gripper,
    )


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
