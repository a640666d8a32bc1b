"""Sections `action` and `outputs`: what actions mean, and on which topics the arm is commanded."""

from collections.abc import Sequence
from dataclasses import replace

from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.names import frame_name, plain_name, topic_name
from sqap_vla_ros.profiles.robot_profile import (
    Action,
    JOINT_OUTPUTS,
    JOINT_POSITION,
    JOINT_VELOCITY,
    MAX_HORIZON_S,
    Output,
    Pose,
    RobotProfile,
    SPACES,
    TRAJECTORIES,
    TWIST,
    TWIST_OUTPUTS,
)
from sqap_vla_ros.profiles.sections.cameras import read_pose
from sqap_vla_ros.profiles.sections.joints import report_repeated

MAX_SCALE = 100.0
"""Of the policy's actions; a policy in millimetres has 0.001."""


def read_action(section: Section | None) -> Action:
    """Read `action`: what the policy's actions mean on this robot."""
    if section is None:
        return Action()
    space = section.text('space', TWIST, SPACES)
    frame = section.section('policy_frame')
    linear, angular, joint = (
        section.number(name, 'ratio', 1.0, high=MAX_SCALE, positive=True)
        for name in ('linear_scale', 'angular_scale', 'joint_scale')
    )
    pose = Pose()
    if frame is not None:
        pose = read_pose(frame)
        frame.close()
    renamed = section.section('columns')
    columns = {}
    if renamed is not None:
        columns = {name: renamed.text(name, check=plain_name) or name for name in renamed.keys()}
        report_repeated(renamed, columns)
    for key, effective in (
        ('linear_scale', space == TWIST or bool(columns)),
        ('angular_scale', space == TWIST or bool(columns)),
        ('joint_scale', space == JOINT_VELOCITY),
    ):
        if key in section and not effective:
            section.problem(
                f'{section.name(key)} would have no effect with action.space: {space}',
                section.line_of(key),
            )
    section.close()
    return Action(space, linear, angular, joint, columns, pose)


def read_output(section: Section, joint_names: Sequence[str]) -> Output:
    """
    Read an entry of `outputs`, a topic on which the arm is commanded.

    Args:
        section: the entry.
        joint_names: the profile's joints, in order; the default order of a joint output.
    """
    kind = section.text('type', choices=TWIST_OUTPUTS + JOINT_OUTPUTS) or 'twist_stamped'
    output = Output(kind, section.text('topic', check=topic_name) or '?', line=section.line)
    if kind in TWIST_OUTPUTS:
        output = replace(output, frame=section.text('frame', '', check=frame_name))
    else:
        output = replace(output, joints=section.names('joints') or tuple(joint_names))
        for index, name in enumerate(output.joints):
            if name in output.joints[:index]:
                section.problem(
                    f'{section.path}: joint {name!r} is there more than once',
                    section.line_of('joints'),
                )
            if name not in joint_names:
                section.problem(
                    f'{section.path}: joint {name!r} is not in the list joints',
                    section.line_of('joints'),
                )
    if kind in TRAJECTORIES:
        horizon_s = section.number('horizon', 'time', 0.1, low=0.02, high=MAX_HORIZON_S)
        output = replace(output, horizon_s=horizon_s)
    if kind == 'float64_multi_array':
        interface = section.text('interface', choices=('position', 'velocity')) or 'position'
        output = replace(output, interface=interface)
        stops = section.flag('controller_stops_by_itself', False)
        if interface == 'velocity' and not stops:
            section.problem(
                f'{section.path}: a forward controller keeps the last velocity for ever when the '
                'node is killed; use interface: position, or say controller_stops_by_itself: '
                'true if your controller has a command timeout',
                section.line_of('interface'),
            )
    section.close()
    return output


def check_outputs(top: Section, profile: RobotProfile) -> None:
    """Report outputs, joints and workspace limits that do not fit the action space."""
    if profile.base_frame == profile.end_effector_frame != '?':
        top.problem(
            f'end_effector_frame is base_frame, {profile.base_frame!r}: it would never move',
            top.line_of('end_effector_frame'),
        )
    if not profile.outputs and 'outputs' in top:
        top.problem('outputs is empty: nothing would be commanded', top.line_of('outputs'))
    for output in profile.outputs:
        if profile.joint_space and output.kind in TWIST_OUTPUTS:
            top.problem(
                f'outputs: {output.kind} needs action.space: twist, it is {profile.action.space}',
                output.line,
            )
        if not profile.joint_space and output.kind in JOINT_OUTPUTS:
            top.problem(
                f'outputs: {output.kind} needs action.space: {JOINT_POSITION} or '
                'joint_velocity, and a policy that gives them; for a policy that gives '
                'end-effector twists use twist_stamped with a controller that solves the '
                'kinematics, such as MoveIt Servo',
                output.line,
            )
    if profile.joint_space and not profile.joints:
        top.problem(
            f'joints is missing: action.space {profile.action.space} needs their limits',
            top.line_of('action'),
        )
    missing = [joint for joint in profile.joints if joint.acceleration is None]
    if profile.joint_space and missing:
        top.problem(
            f'joints: {missing[0].name} has no acceleration; in joint space every joint '
            'needs one (choose a cautious one where the manufacturer gives none)',
            missing[0].line,
        )
    commanded = {name for output in profile.outputs for name in output.joints}
    for joint in profile.joints:
        if profile.joint_space and profile.outputs and joint.name not in commanded:
            top.problem(f'joints: no output commands {joint.name!r}', joint.line)
        if joint.name == profile.gripper.joint:
            top.problem(
                f'joints: {joint.name!r} is gripper.joint, too; leave it out of one of them',
                joint.line,
            )
    for output in profile.outputs:
        problem = frame_problem(output, profile)
        if problem:
            top.problem(problem, output.line)
    topics = [output.topic for output in profile.outputs]
    for output in profile.outputs:
        if topics.count(output.topic) > 1:
            top.problem(f'outputs: topic {output.topic!r} is there more than once', output.line)
            break


def frame_problem(output: Output, profile: RobotProfile) -> str | None:
    """Say what is wrong with the frame of an output of twists; None if nothing is."""
    known = profile.base_frame, profile.end_effector_frame
    if not output.frame or output.frame in known:
        return None
    return (
        f'outputs: {output.topic}: frame is {output.frame!r}, expected base_frame {known[0]!r} or '
        f'end_effector_frame {known[1]!r}: no other orientation is measured'
    )
