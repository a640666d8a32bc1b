"""Compares a profile with the robot's URDF: joints, limits and frames."""

from dataclasses import dataclass
import math
from pathlib import Path
import xml.etree.ElementTree as ElementTree

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.document import Problem
from sqap_vla_ros.profiles.robot_profile import RobotProfile

TOLERANCE = 1e-3
"""By which a profile's limit may exceed the URDF's, rad, m or per second: rounding."""
MAX_BYTES = 20_000_000


@dataclass(frozen=True)
class UrdfJoint:
    """Limits of a joint, rad or m; infinite where the URDF gives none."""

    kind: str
    lower: float
    upper: float
    velocity: float


@dataclass(frozen=True)
class Urdf:
    """The parts of a URDF that profiles are compared with."""

    name: str
    joints: dict[str, UrdfJoint]
    links: frozenset[str]


def read_urdf(path: Path) -> Urdf:
    """
    Read a URDF file.

    Args:
        path: file; xacro must be expanded first.

    Raises:
        UserError: the file cannot be read or is not a URDF.
    """
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES or b'<!ENTITY' in data:
            raise UserError(
                f'{path}: larger than {MAX_BYTES} bytes, or with XML entities; expected a URDF'
            )
        root = ElementTree.fromstring(data)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    except ElementTree.ParseError as error:
        raise UserError(f'{path}: not valid XML ({error})') from None
    if root.tag != 'robot':
        raise UserError(f'{path}: its first element is <{root.tag}>, expected <robot>')
    if any('xacro' in element.tag for element in root.iter()):
        raise UserError(f'{path}: this is xacro; expand it first: `xacro {path} > robot.urdf`')
    joints = {}
    for element in root.findall('joint'):
        limit = element.find('limit')
        given = {} if limit is None else limit.attrib
        free = element.get('type') == 'continuous'
        joints[element.get('name', '')] = UrdfJoint(
            element.get('type', ''),
            -math.inf if free else _number(path, given.get('lower', '0')),
            math.inf if free else _number(path, given.get('upper', '0')),
            _number(path, given.get('velocity', 'inf')),
        )
    return Urdf(
        root.get('name', path.stem),
        joints,
        frozenset(link.get('name', '') for link in root.findall('link')),
    )


def check_against_urdf(profile: RobotProfile, urdf: Urdf) -> list[Problem]:
    """Find what the profile allows beyond the URDF, and joints and frames the URDF lacks."""
    problems = []
    for joint in profile.joints:
        found = urdf.joints.get(joint.name)
        if found is None:
            names = ', '.join(name for name, j in urdf.joints.items() if j.kind != 'fixed')
            problems.append(
                Problem(joint.line, f'joint {joint.name!r} is not in the URDF, which has {names}')
            )
            continue
        if found.kind != joint.kind:
            problems.append(
                Problem(
                    joint.line,
                    f'joint {joint.name!r} is {joint.kind}, in the '
                    f'URDF {found.kind or "without a type"}',
                )
            )
            continue
        for name, ours, theirs, beyond in (
            ('lower', joint.lower, found.lower, joint.lower < found.lower - TOLERANCE),
            ('upper', joint.upper, found.upper, joint.upper > found.upper + TOLERANCE),
            (
                'velocity',
                joint.velocity,
                found.velocity,
                joint.velocity is not None and joint.velocity > found.velocity + TOLERANCE,
            ),
        ):
            if beyond:
                problems.append(
                    Problem(
                        joint.line,
                        f'joint {joint.name!r}: {name} {ours:g} is '
                        f'beyond the {theirs:g} of the URDF',
                    )
                )
    frames = [
        ('base_frame', profile.base_frame),
        ('end_effector_frame', profile.end_effector_frame),
    ]
    frames += [
        (f'output {output.topic}', output.frame) for output in profile.outputs if output.frame
    ]
    for name, frame in frames:
        if frame not in urdf.links:
            problems.append(Problem(1, f'{name} {frame!r} is not a link of the URDF'))
    gripper = profile.gripper.joint
    if gripper and gripper not in urdf.joints:
        problems.append(Problem(1, f'gripper.joint {gripper!r} is not in the URDF'))
    return problems


def notes_on_urdf(profile: RobotProfile, urdf: Urdf) -> list[str]:
    """List what is no mistake but needs care: camera frames that the URDF does not define."""
    return [
        f'camera {camera.name!r}: frame {camera.optical_frame!r} is not a link of the URDF; '
        'something else must publish its transform'
        for camera in profile.cameras
        if camera.extrinsics == 'tf' and camera.optical_frame not in urdf.links
    ]


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f'{path}: limit {text!r} is not a number') from None
