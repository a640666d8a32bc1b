"""Robot profiles read from YAML."""

from pathlib import Path

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import exists
from sqap_vla_ros.profiles.document import Problem, read_document, Section
from sqap_vla_ros.profiles.names import frame_name, title
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.profiles.sections.cameras import read_cameras, read_pose_source
from sqap_vla_ros.profiles.sections.gripper import read_gripper
from sqap_vla_ros.profiles.sections.joints import (
    check_policy_joints,
    read_joint_states,
    read_joints,
)
from sqap_vla_ros.profiles.sections.limits import check_limits, read_settings
from sqap_vla_ros.profiles.sections.outputs import check_outputs, read_action, read_output
from sqap_vla_ros.profiles.sections.topics import check_topics
from sqap_vla_ros.profiles.sections.tracking import read_tracking
from sqap_vla_ros.resources import find_resource

FOLDER = 'config/robots'
"""Profiles shipped with the package."""
MAX_SKEW_S = 10.0


def load_profile(name: str) -> RobotProfile:
    """
    Read a profile that must be free of problems.

    Args:
        name: path of a YAML file, or the name of a shipped profile.

    Raises:
        UserError: with the first problem and its line.
    """
    path = profile_path(name)
    profile, problems = read_profile(path)
    if profile is None or problems:
        first = problems[0]
        more = f' (and {len(problems) - 1} more problems)' if len(problems) > 1 else ''
        raise UserError(
            f'{path}:{first.line}: {first.message}{more}; `sqap_vla profile check '
            f'{path}` shows all'
        )
    return profile


def profile_path(name: str) -> Path:
    """
    Find the file of a profile.

    Args:
        name: path of a YAML file, or the name of a shipped profile.

    Raises:
        UserError: there is no such file and no such shipped profile; lists the shipped ones.
    """
    path = Path(name).expanduser()
    if path.suffix or exists(path):
        return path
    folder = find_resource(FOLDER)
    if exists(folder / f'{name}.yaml'):
        return folder / f'{name}.yaml'
    names = ', '.join(sorted(file.stem for file in folder.glob('*.yaml')))
    raise UserError(f'profile {shown(name)} is neither a file nor a shipped profile: {names}')


def read_profile(path: Path) -> tuple[RobotProfile | None, list[Problem]]:
    """
    Read a profile and find all its problems.

    Args:
        path: YAML file.

    Returns:
        The profile and its problems, by line. What is missing or wrong has a default value in
        the profile; it is None when the file is not valid YAML.

    Raises:
        UserError: the file cannot be read.
    """
    problems: list[Problem] = []
    top = read_document(path, problems)
    if top is None:
        return None, problems
    profile = _profile(top)
    problems.sort(key=lambda problem: problem.line)
    return profile, problems


def _profile(top: Section) -> RobotProfile:
    cameras = read_cameras(top)
    joints = read_joints(top)
    names = [joint.name for joint in joints]
    pose_source, pose_topic = read_pose_source(top.section('end_effector_pose'))
    joint_states_topic, policy_joints = read_joint_states(top.section('joint_states'))
    profile = RobotProfile(
        robot=top.text('robot', check=title) or '?',
        base_frame=top.text('base_frame', check=frame_name) or '?',
        end_effector_frame=top.text('end_effector_frame', check=frame_name) or '?',
        cameras=cameras,
        outputs=tuple(read_output(section, names) for section in top.sections('outputs', True)),
        simulated=top.flag('simulated', False),
        run_on_hardware=top.flag('run_on_hardware'),
        max_camera_skew_s=top.number(
            'max_camera_skew', 'time', 0.05, high=MAX_SKEW_S, positive=True
        ),
        pose_source=pose_source,
        pose_topic=pose_topic,
        joint_states_topic=joint_states_topic,
        policy_joints=policy_joints,
        joints=joints,
        gripper=read_gripper(top.section('gripper')),
        action=read_action(top.section('action')),
        tracking=read_tracking(top.section('tracking')),
        settings=read_settings(top),
    )
    check_outputs(top, profile)
    check_topics(top, profile)
    check_policy_joints(top, profile)
    check_limits(top, profile.joint_space)
    top.close()
    return profile
