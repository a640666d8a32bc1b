"""Generates a first robot profile from a URDF."""

import json
import math
from pathlib import Path
import re

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles import ranges
from sqap_vla_ros.profiles.document import FILL_IN
from sqap_vla_ros.profiles.sections.joints import KINDS
from sqap_vla_ros.profiles.units import quantity
from sqap_vla_ros.profiles.urdf import GRIPPER_TOLERANCE, read_urdf, Urdf, UrdfJoint

CHOSEN_VELOCITY = 0.5
"""Of a joint whose URDF gives none, or one that no arm has, rad/s or m/s."""
TEMPLATE = """\
# Generated from {urdf} by `sqap_vla profile new`. Joint limits are those of the URDF; the limits
# below are cautious values for a first run. Topics are guesses: compare them with
# `ros2 topic list`.
robot: {robot}
run_on_hardware: false
base_frame: {base}
end_effector_frame: {end}

cameras:
  camera:                                # the policy's name for it
    topic: camera/image_raw              # add transport: compressed for CompressedImage
    optical_frame: camera_optical_frame
    info_topic: camera/camera_info
    extrinsics: {{source: {source}}}

end_effector_pose: {pose}
joint_states: {{topic: joint_states}}

joints:                                  # from {base} to {end}
{joints}
{gripper}action: {{space: twist}}

limits:
  linear_speed: 0.05 m/s
  angular_speed: 0.3 rad/s
  linear_acceleration: 0.5 m/s^2
  linear_jerk: 10 m/s^3
  stop_deceleration: 1.0 m/s^2
  stop_jerk: 20 m/s^3
  workspace_low: {low}
  workspace_high: {high}

# For MoveIt Servo: command_in_type must be speed_units, and from Iron on it must be told to take
# twists (doc/your_robot.md).
outputs:
  - {{type: twist_stamped, topic: servo_node/delta_twist_cmds, frame: {base}}}

rates: {{command: 50 Hz, inference: 5 Hz}}
"""
GRIPPER = """\
gripper:
  joint: {joint}
  unit: {unit}
{hint}  open: {opened}
  closed: {closed}
  outputs:                               # open, closed: what its driver takes
    - {{type: float64, topic: gripper_command, open: {opened}, closed: {closed}}}

"""
HINT = """\
  # {range}The URDF does not say which end is open:
  # Robotiq and xArm grippers are 0 when open, the fingers of a Panda 0 when closed.
"""
NO_GRIPPER = """\
# No gripper is measured: the value given to policies that need one, 0 (open) .. 1 (closed).
gripper: {assumed: 0}

"""


def new_profile(
    urdf_path: Path,
    base: str,
    end: str,
    low: list[float],
    high: list[float],
    gripper_joint: str | None = None,
    gripper_ends: tuple[str, str] | None = None,
    tf: bool = True,
) -> tuple[str, list[str]]:
    """
    Generate a profile for the arm of a URDF, commanded by end-effector twists.

    Args:
        urdf_path: URDF file.
        base: link whose frame commands are in.
        end: link that the policy moves.
        low: lowest end-effector position, [3], m, base frame.
        high: highest end-effector position, [3], m, base frame.
        gripper_joint: joint that measures the gripper; None: no gripper is measured.
        gripper_ends: position of this joint when open and when closed, rad or m, or with its
            unit ('40 mm'); None: not known, the profile then has FILL_IN in their places.
        tf: take poses from TF, not from the topics end_effector_pose and camera/extrinsics.

    Returns:
        The YAML text of the profile, and one line for each joint that was left out or whose limits
        are not known.

    Raises:
        UserError: the URDF cannot be read, lacks a link or joint that was named, or does not
            connect the links.
    """
    urdf = read_urdf(urdf_path)
    for name in (base, end):
        if name not in urdf.links:
            raise UserError(
                f'{urdf_path}: it has no link {name!r}; it has {", ".join(sorted(urdf.links))}'
            )
    chain = urdf.between(base, end)
    moving = [name for name in chain if urdf.joints[name].kind in KINDS]
    if not moving:
        raise UserError(
            f'{urdf_path}: no moving joint leads from {base!r} to {end!r}; name a link of the '
            "arm's foot and one of its tool"
        )
    gripper = NO_GRIPPER
    if gripper_joint is not None:
        gripper = _gripper(urdf_path, urdf, gripper_joint, gripper_ends)
    arm = [name for name in moving if not urdf.joints[name].mimics and name != gripper_joint]
    text = TEMPLATE.format(
        urdf=urdf_path.name,
        robot=_word(urdf.name),
        base=_word(base),
        end=_word(end),
        low=[float(value) for value in low],
        high=[float(value) for value in high],
        source='tf' if tf else 'topic, topic: camera/extrinsics',
        pose='{source: tf}' if tf else '{source: topic, topic: end_effector_pose}',
        joints=''.join(_joint(name, urdf.joints[name]) for name in arm),
        gripper=gripper,
    )
    return text, _notes(urdf, chain, arm, gripper_joint)


def _gripper(path: Path, urdf: Urdf, name: str, ends: tuple[str, str] | None) -> str:
    joint = urdf.joints.get(name)
    if joint is None or joint.kind not in KINDS:
        moving = ', '.join(name for name, j in urdf.joints.items() if j.kind in KINDS)
        what = 'it has no joint' if joint is None else f'{joint.kind} is the joint'
        raise UserError(f'{path}: {what} {name!r}; joints that move: {moving}')
    if joint.mimics:
        raise UserError(
            f'{path}: the joint {name!r} mimics {urdf.leader(name)!r}; give that as the joint of '
            'the gripper'
        )
    prismatic = joint.kind == 'prismatic'
    values = _ends(path, name, joint, ends) if ends else [FILL_IN, FILL_IN]
    between = f'Between {joint.lower:g} and {joint.upper:g}. '
    return GRIPPER.format(
        joint=_word(name),
        unit='m' if prismatic else 'rad',
        hint='' if ends else HINT.format(range=between if math.isfinite(joint.upper) else ''),
        opened=values[0],
        closed=values[1],
    )


def _ends(path: Path, name: str, joint: UrdfJoint, texts: tuple[str, str]) -> list[str]:
    ends = []
    for text in texts:
        try:
            value = quantity(text, 'length' if joint.kind == 'prismatic' else 'angle')
        except ValueError as error:
            raise UserError(f'gripper: {error}') from None
        if not joint.lower - GRIPPER_TOLERANCE <= value <= joint.upper + GRIPPER_TOLERANCE:
            raise UserError(
                f'{path}: the gripper at {text} is outside of {joint.lower:g} .. '
                f'{joint.upper:g}, the limits of {name!r}'
            )
        ends.append(f'{value:g}')
    if ends[0] == ends[1]:
        raise UserError(f'gripper: open and closed are both {ends[0]}')
    return ends


def _joint(name: str, joint: UrdfJoint) -> str:
    position = 'length' if joint.kind == 'prismatic' else 'angle'
    unit = 'm' if joint.kind == 'prismatic' else 'rad'
    bounds = ''
    if joint.kind != 'continuous':
        bounds = ''.join(
            f'{end}: {_limit(value, ranges.MAX_POSITION[position], unit)}, '
            for end, value in (('lower', joint.lower), ('upper', joint.upper))
        )
    velocity = _velocity(joint)
    note = '' if velocity == joint.velocity else '  # chosen'
    return (
        f'  - {{name: {_word(name)}, type: {joint.kind}, {bounds}velocity: {velocity:g} {unit}/s}}'
        f'{note}\n'
    )


def _limit(value: float, farthest: float, unit: str) -> str:
    return f'{value:g} {unit}' if abs(value) <= farthest else FILL_IN


def _velocity(joint: UrdfJoint) -> float:
    fastest = ranges.MAX_VELOCITY['length' if joint.kind == 'prismatic' else 'angle']
    return joint.velocity if 0 < joint.velocity <= fastest else CHOSEN_VELOCITY


def _notes(urdf: Urdf, chain: list[str], arm: list[str], gripper_joint: str | None) -> list[str]:
    notes = []
    for name, joint in urdf.joints.items():
        if name == gripper_joint or joint.kind == 'fixed':
            continue
        if name in arm:
            if _joint(name, joint).find(FILL_IN) >= 0:
                notes.append(f'joint {name!r}: the URDF gives no limits that can be; fill them in')
            if _velocity(joint) != joint.velocity:
                notes.append(
                    f'joint {name!r}: velocity {joint.velocity:g} in the URDF, '
                    f'{CHOSEN_VELOCITY:g} in the profile; take it from the data sheet'
                )
        elif joint.mimics:
            notes.append(f'joint {name!r} is left out: it mimics {joint.mimics!r}')
        elif joint.kind not in KINDS:
            notes.append(
                f'joint {name!r} is left out: it is {joint.kind or "without a type"}; a profile '
                f'has {", ".join(KINDS)}'
            )
        elif name not in chain:
            notes.append(
                f'joint {name!r} is left out: it is not between the base and the end effector'
            )
    return notes


def _word(text: str) -> str:
    """Quote a name that YAML would not read as it is."""
    plain = re.fullmatch(r'[A-Za-z_][\w ./-]*', text) and text == text.strip()
    return text if plain else json.dumps(text)
