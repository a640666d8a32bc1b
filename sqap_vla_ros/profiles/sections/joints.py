"""Sections `joints` and `joint_states`: limits and names of the joints."""

import math

from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.robot_profile import Joint

KINDS = ('revolute', 'continuous', 'prismatic')
"""Types of joints, as in a URDF."""
DEFAULT_JOINT_STATES_TOPIC = 'joint_states'


def read_joints(top: Section) -> tuple[Joint, ...]:
    """Read `joints`, the limits of each joint."""
    joints = tuple(_joint(section) for section in top.sections('joints'))
    names = [joint.name for joint in joints]
    for joint in joints:
        if names.count(joint.name) > 1:
            top.problem(f'joints: {joint.name!r} is there more than once', joint.line)
            break
    return joints


def read_joint_states(section: Section | None) -> tuple[str, dict[str, str]]:
    """
    Read `joint_states`.

    Returns:
        The topic, and the policy's joint names with the robot's names for them.
    """
    if section is None:
        return DEFAULT_JOINT_STATES_TOPIC, {}
    mapping = section.section('policy_names')
    names = {}
    if mapping is not None:
        names = {name: mapping.text(name) or name for name in mapping.keys()}
    topic = section.text('topic') or DEFAULT_JOINT_STATES_TOPIC
    section.close()
    return topic, names


def _joint(section: Section) -> Joint:
    kind = section.text('type', 'revolute', KINDS)
    linear = kind == 'prismatic'
    position, speed, acceleration, jerk = (
        ('length', 'speed', 'acceleration', 'jerk')
        if linear
        else ('angle', 'angular speed', 'angular acceleration', 'angular jerk')
    )
    bounded = kind != 'continuous'
    lower = section.number('lower', position, -math.inf, required=bounded)
    upper = section.number('upper', position, math.inf, required=bounded)
    if not lower < upper:
        section.problem(
            f'{section.path}: lower {lower:g} is not below upper {upper:g}',
            section.line_of('lower'),
        )
        lower, upper = -math.inf, math.inf
    joint = Joint(
        section.text('name') or '?',
        kind,
        lower,
        upper,
        section.positive('velocity', speed, required=True),
        section.positive('acceleration', acceleration),
        section.positive('jerk', jerk),
        section.line,
    )
    section.close()
    return joint
