"""Sections `joints` and `joint_states`: limits and names of the joints."""

import math

from sqap_vla_ros.profiles import ranges
from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.names import plain_name, topic_name
from sqap_vla_ros.profiles.robot_profile import Joint, RobotProfile

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
        names = {name: mapping.text(name, check=plain_name) or name for name in mapping.keys()}
        report_repeated(mapping, names)
    topic = section.text('topic', check=topic_name) or DEFAULT_JOINT_STATES_TOPIC
    section.close()
    return topic, names


def check_policy_joints(top: Section, profile: RobotProfile) -> None:
    """Report `policy_names` that name a joint which a robot commanded by its joints lacks."""
    known = {joint.name for joint in profile.joints} | {profile.gripper.joint}
    for policy, robot in profile.policy_joints.items():
        if profile.joint_space and profile.joints and robot not in known:
            top.problem(
                f'joint_states.policy_names.{policy} is {robot!r}, which is not in joints',
                top.line_of('joint_states'),
            )


def report_repeated(section: Section, names: dict[str, str]) -> None:
    """Report names of a policy that stand for the same name of the robot."""
    for key, name in names.items():
        same = [other for other, value in names.items() if value == name]
        if key != same[0]:
            section.problem(
                f'{section.name(key)} is {name!r}, as is {section.name(same[0])}; each needs one '
                'of its own',
                section.line_of(key),
            )


def _joint(section: Section) -> Joint:
    kind = section.text('type', 'revolute', KINDS)
    position = 'length' if kind == 'prismatic' else 'angle'
    speed, acceleration, jerk = (
        ('speed', 'acceleration', 'jerk')
        if position == 'length'
        else ('angular speed', 'angular acceleration', 'angular jerk')
    )
    farthest, bare = ranges.MAX_POSITION[position], ranges.BARE_POSITION[position]
    lower, upper = (
        section.number(
            name, position, infinite, kind != 'continuous', low=-farthest, high=farthest, bare=bare
        )
        for name, infinite in (('lower', -math.inf), ('upper', math.inf))
    )
    if not lower < upper:
        section.problem(
            f'{section.path}: lower {lower:g} is not below upper {upper:g}',
            section.line_of('lower'),
        )
        lower, upper = -math.inf, math.inf
    calibrated = _calibrated_range(section, position, lower, upper)
    joint = Joint(
        section.text('name', check=plain_name) or '?',
        kind,
        lower,
        upper,
        section.number(
            'velocity',
            speed,
            required=True,
            high=ranges.MAX_VELOCITY[position],
            bare=ranges.BARE_VELOCITY[position],
            positive=True,
        ),
        section.number(
            'acceleration', acceleration, high=ranges.MAX_ACCELERATION[position], positive=True
        ),
        section.number('jerk', jerk, high=ranges.MAX_JERK[position], positive=True),
        section.line,
        calibrated,
        section.number('policy_zero', position, 0.0, low=-farthest, high=farthest, bare=bare),
        int(section.text('policy_direction', '1', ('1', '-1'))),
    )
    section.close()
    return joint


def _calibrated_range(
    section: Section, position: str, lower: float, upper: float
) -> tuple[float, float] | None:
    values = section.numbers(
        'calibrated_range',
        position,
        2,
        largest=ranges.MAX_POSITION[position],
        bare=ranges.BARE_POSITION[position],
    )
    if values is None:
        return None
    first, last = values
    if first == last or max(values) <= lower or min(values) >= upper:
        section.problem(
            f'{section.path}: calibrated_range [{first:g}, {last:g}] is '
            + ('empty' if first == last else f'outside of lower {lower:g} .. upper {upper:g}'),
            section.line_of('calibrated_range'),
        )
    return first, last
