"""Compares a profile with the robot's URDF: joints, limits and frames."""

import codecs
from dataclasses import dataclass
import math
from pathlib import Path
import re
import xml.etree.ElementTree as ElementTree

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import MIB, read_bytes
from sqap_vla_ros.profiles.document import Problem
from sqap_vla_ros.profiles.ranges import MAX_POSITION
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.profiles.sections.joints import KINDS

TOLERANCE = 1e-3
"""By which a profile's limit may exceed the URDF's, rad, m or per second: rounding."""
GRIPPER_TOLERANCE = 0.01
"""By which an open or closed gripper may be beyond its limits, rad or m: where it stops."""
MAX_BYTES = 4 * MIB
MAX_JOINTS = 1000
_ENCODING = re.compile(rb'<\?xml[^>]*encoding\s*=\s*["\']([^"\']*)')


ENCODINGS = {
    'utf-8': 'utf-8-sig',
    'utf8': 'utf-8-sig',
    'us-ascii': 'ascii',
    'iso-8859-1': 'latin-1',
}
"""That a URDF may declare, to Python's; other tools of ROS read only UTF-8."""


@dataclass(frozen=True)
class UrdfJoint:
    """A joint; its limits, rad or m, are infinite where the URDF gives none."""

    kind: str
    """'revolute', 'continuous', 'prismatic', 'fixed', 'floating' or 'planar'."""
    lower: float
    upper: float
    velocity: float
    parent: str = ''
    """Name of a link, as is `child`."""
    child: str = ''
    mimics: str = ''
    """Joint whose motion this one repeats; empty: none."""


@dataclass(frozen=True)
class Urdf:
    """The parts of a URDF that profiles are compared with."""

    name: str
    joints: dict[str, UrdfJoint]
    links: frozenset[str]

    def leader(self, name: str) -> str:
        """Return the joint that a joint mimics, over several steps; itself if it mimics none."""
        seen: list[str] = []
        while name in self.joints and self.joints[name].mimics and name not in seen:
            seen.append(name)
            name = self.joints[name].mimics
        return name

    def moving(self, end: str, base: str) -> list[str]:
        """
        Find the joints that move one link and not another.

        Args:
            end: link that they move.
            base: link that they do not.

        Returns:
            Names of the joints, from the root on.
        """
        fixed = self._above(base)
        return [
            name
            for name in self._above(end)
            if name not in fixed and self.joints[name].kind in KINDS
        ]

    def _above(self, link: str) -> list[str]:
        above = {joint.child: name for name, joint in self.joints.items()}
        names: list[str] = []
        while link in above and above[link] not in names:
            names.insert(0, above[link])
            link = self.joints[above[link]].parent
        return names

    def between(self, base: str, end: str) -> list[str]:
        """
        Find the joints of any kind that connect two links.

        Args:
            base: link nearer to the root.
            end: link farther from it.

        Returns:
            Names of the joints, from `base` on; empty when `base` is not above `end`.
        """
        names = self._above(end)
        for index, name in enumerate(names):
            if self.joints[name].parent == base:
                return names[index:]
        return []


def read_urdf(path: Path) -> Urdf:
    """
    Read a URDF file.

    Args:
        path: file; xacro must be expanded first.

    Raises:
        UserError: the file cannot be read or is not a URDF.
    """
    text = _xml_text(path)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f'{path}: not valid XML ({error})') from None
    if root.tag != 'robot':
        raise UserError(f'{path}: its first element is <{root.tag}>, expected <robot>')
    if any('xacro' in element.tag for element in root.iter()):
        raise UserError(f'{path}: this is xacro; expand it first: `xacro {path} > robot.urdf`')
    joints: dict[str, UrdfJoint] = {}
    if len(root.findall('joint')) > MAX_JOINTS:
        raise UserError(f'{path}: has more than {MAX_JOINTS} joints; expected one robot')
    for element in root.findall('joint'):
        name = element.get('name', '')
        if not name or name in joints:
            wrong = f'two joints are named {shown(name)}' if name else 'a joint has no name'
            raise UserError(f'{path}: {wrong}')
        joints[name] = _joint(path, element)
    return Urdf(
        root.get('name', path.stem),
        joints,
        frozenset(link.get('name', '') for link in root.findall('link')),
    )


def _xml_text(path: Path) -> str:
    """
    Read XML as text, so that the parser meets no encoding but this one.

    Entities are looked for in the text. In the bytes of another encoding (UTF-16, UTF-7, EBCDIC)
    they would not be found, though the parser would expand them.
    """
    data = read_bytes(path, MAX_BYTES, 'a URDF')
    declared = _ENCODING.match(data.removeprefix(codecs.BOM_UTF8)[:200])
    encoding = declared.group(1).decode('ascii', 'replace').lower() if declared else 'utf-8'
    if encoding not in ENCODINGS:
        raise UserError(
            f'{path}: its encoding is {shown(encoding)}, expected UTF-8; save it as that'
        )
    try:
        text = data.decode(ENCODINGS[encoding])
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path}: not text in {encoding.upper()} ({error.reason} at byte {error.start}); '
            'expected a URDF'
        ) from None
    if '<!DOCTYPE' in text or '<!ENTITY' in text:
        raise UserError(f'{path}: with a DOCTYPE or XML entities; expected a URDF without')
    return text


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
        if found.mimics:
            problems.append(
                Problem(
                    joint.line,
                    f'joint {joint.name!r} mimics {urdf.leader(joint.name)!r} in the URDF, which '
                    'moves it; leave it out',
                )
            )
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
    base, end = profile.base_frame, profile.end_effector_frame
    if urdf.links.issuperset((base, end)) and not urdf.moving(end, base):
        swapped = urdf.moving(base, end)
        problems.append(
            Problem(
                1,
                f'no joint of the URDF moves end_effector_frame {end!r} against base_frame '
                f'{base!r}' + ('; are they swapped?' if swapped else ''),
            )
        )
    return problems + _gripper_problems(profile, urdf)


def notes_on_urdf(profile: RobotProfile, urdf: Urdf) -> list[str]:
    """
    List what is no mistake but needs care.

    Camera frames that the URDF does not define, joints without limits in it, and, in joint space,
    joints that do not move the end effector and those that do and are not commanded.
    """
    notes = [
        f'joint {joint.name!r}: the URDF gives no limits that can be, to compare those of the '
        'profile with; take them from the data sheet'
        for joint in profile.joints
        if (found := urdf.joints.get(joint.name)) is not None
        and found.kind in ('revolute', 'prismatic')
        and not max(abs(found.lower), abs(found.upper))
        <= MAX_POSITION['length' if found.kind == 'prismatic' else 'angle']
    ]
    if profile.joint_space:
        names = [joint.name for joint in profile.joints]
        chain = urdf.moving(profile.end_effector_frame, profile.base_frame)
        notes += [
            f'joint {name!r} is commanded, and does not move {profile.end_effector_frame!r}'
            for name in names
            if name in urdf.joints and name not in chain
        ]
        notes += [
            f'joint {name!r} moves {profile.end_effector_frame!r}, and is not in joints'
            for name in chain
            if name not in names and not urdf.joints[name].mimics
        ]
    return notes + [
        f'camera {camera.name!r}: frame {camera.optical_frame!r} is not a link of the URDF; '
        'something else must publish its transform'
        for camera in profile.cameras
        if camera.extrinsics == 'tf' and camera.optical_frame not in urdf.links
    ]


def _gripper_problems(profile: RobotProfile, urdf: Urdf) -> list[Problem]:
    gripper = profile.gripper
    if not gripper.joint:
        return []
    found = urdf.joints.get(gripper.joint)
    if found is None:
        return [Problem(gripper.line, f'gripper.joint {gripper.joint!r} is not in the URDF')]
    if found.kind not in KINDS:
        return [Problem(gripper.line, f'gripper.joint {gripper.joint!r} is {found.kind}')]
    return [
        Problem(
            gripper.line,
            f'gripper.{name} {value:g} is outside of {found.lower:g} .. {found.upper:g}, the '
            f'limits of {gripper.joint!r} in the URDF',
        )
        for name, value in (('open', gripper.opened), ('closed', gripper.closed))
        if value < found.lower - GRIPPER_TOLERANCE or value > found.upper + GRIPPER_TOLERANCE
    ]


def _joint(path: Path, element: ElementTree.Element) -> UrdfJoint:
    limit, mimic = element.find('limit'), element.find('mimic')
    given = {} if limit is None else limit.attrib
    kind = element.get('type', '')
    lower, upper = (_number(path, given.get(end, '0')) for end in ('lower', 'upper'))
    # 0 .. 0 is what a URDF without limits means; no joint moves in it.
    if kind == 'continuous' or lower == upper:
        lower, upper = -math.inf, math.inf
    return UrdfJoint(
        kind,
        lower,
        upper,
        _number(path, given.get('velocity', 'inf')),
        _link(element, 'parent'),
        _link(element, 'child'),
        '' if mimic is None else mimic.get('joint', ''),
    )


def _link(element: ElementTree.Element, end: str) -> str:
    found = element.find(end)
    return '' if found is None else found.get('link', '')


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f'{path}: limit {shown(text)} is not a number') from None
