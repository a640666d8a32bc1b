"""Generates a first robot profile from a URDF."""

import math
from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.sections.joints import KINDS
from sqap_vla_ros.profiles.urdf import read_urdf, UrdfJoint

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

joints:
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

outputs:
  - {{type: twist_stamped, topic: servo_node/delta_twist_cmds, frame: {base}}}

rates: {{command: 50 Hz, inference: 5 Hz}}
"""
GRIPPER = """\

gripper:
  joint: {joint}
  unit: {unit}
  open: {opened:g}
  closed: {closed:g}
  outputs:
    - {{type: float64, topic: gripper_command, open: {opened:g}, closed: {closed:g}}}

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
    tf: bool = True,
) -> str:
    """
    Generate a profile for the arm of a URDF, commanded by end-effector twists.

    Args:
        urdf_path: URDF file.
        base: link whose frame commands are in.
        end: link that the policy moves.
        low: lowest end-effector position, [3], m, base frame.
        high: highest end-effector position, [3], m, base frame.
        gripper_joint: joint that measures the gripper; None: no gripper is measured.
        tf: take poses from TF, not from the topics end_effector_pose and camera/extrinsics.

    Returns:
        The YAML text of the profile.

    Raises:
        UserError: the URDF cannot be read, or lacks a link or joint that was named.
    """
    urdf = read_urdf(urdf_path)
    for name in (base, end):
        if name not in urdf.links:
            raise UserError(
                f'{urdf_path}: it has no link {name!r}; it has {", ".join(sorted(urdf.links))}'
            )
    moving = {name: joint for name, joint in urdf.joints.items() if joint.kind in KINDS}
    gripper = NO_GRIPPER
    if gripper_joint is not None:
        if gripper_joint not in moving:
            raise UserError(
                f'{urdf_path}: it has no moving joint {gripper_joint!r}; it has '
                f'{", ".join(moving)}'
            )
        joint = moving.pop(gripper_joint)
        gripper = GRIPPER.format(
            joint=gripper_joint,
            opened=joint.upper,
            closed=joint.lower,
            unit='m' if joint.kind == 'prismatic' else 'rad',
        )
    return TEMPLATE.format(
        urdf=urdf_path.name,
        robot=urdf.name,
        base=base,
        end=end,
        low=[float(value) for value in low],
        high=[float(value) for value in high],
        source='tf' if tf else 'topic, topic: camera/extrinsics',
        pose='{source: tf}' if tf else '{source: topic, topic: end_effector_pose}',
        joints=''.join(map(_joint, moving.items())),
        gripper=gripper,
    )


def _joint(item: tuple[str, UrdfJoint]) -> str:
    name, joint = item
    velocity = joint.velocity if math.isfinite(joint.velocity) and joint.velocity > 0 else 0.5
    bounds = (
        '' if joint.kind == 'continuous' else (f'lower: {joint.lower:g}, upper: {joint.upper:g}, ')
    )
    return f'  - {{name: {name}, type: {joint.kind}, {bounds}velocity: {velocity:g}}}\n'
