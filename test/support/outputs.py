"""A robot profile with two joints and commands for it, for the tests of the outputs."""

from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.profiles.robot_profile import Action, Gripper, Joint, RobotProfile

JOINTS = ('shoulder', 'elbow')
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
