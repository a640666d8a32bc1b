"""Robot profiles from YAML."""

import math
from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.document import Problem, read_document, Section
from sqap_vla_ros.profiles.robot_profile import (
    Action,
    Camera,
    Gripper,
    GRIPPER_OUTPUTS,
    GripperOutput,
    Intrinsics,
    Joint,
    JOINT_OUTPUTS,
    JOINT_POSITION,
    MAX_HORIZON_S,
    Output,
    Pose,
    RobotProfile,
    SPACES,
    TWIST,
    TWIST_OUTPUTS,
)
from sqap_vla_ros.resources import find_resource

FOLDER = 'config/robots'
# Key below `limits` and `rates` to the node's parameter and the dimension.
LIMITS = {
    'linear_speed': ('max_linear_speed_m_s', 'speed'),
    'angular_speed': ('max_angular_speed_rad_s', 'angular speed'),
    'linear_acceleration': ('max_linear_acceleration_m_s2', 'acceleration'),
    'linear_jerk': ('max_linear_jerk_m_s3', 'jerk'),
    'stop_deceleration': ('stop_deceleration_m_s2', 'acceleration'),
    'stop_jerk': ('stop_jerk_m_s3', 'jerk'),
}
RATES = {'command': ('command_rate_hz', 'rate'), 'inference': ('inference_rate_hz', 'rate')}
_KINDS = ('revolute', 'continuous', 'prismatic')


def load_profile(name: str) -> RobotProfile:
    """
    Read a profile by file name or by the name of one that is shipped.

    Raises UserError with the first problem and its line.
    """
    path = profile_path(name)
    profile, problems = read_profile(path)
    if problems:
        first = problems[0]
        more = f' (and {len(problems) - 1} more problems)' if len(problems) > 1 else ''
        raise UserError(
            f'{path}:{first.line}: {first.message}{more}; `sqap_vla profile check '
            f'{path}` shows all'
        )
    return profile


def profile_path(name: str) -> Path:
    """Find a profile's file. Raises UserError naming the ones that are shipped."""
    path = Path(name).expanduser()
    if path.suffix or path.exists():
        return path
    folder = find_resource(FOLDER)
    if (folder / f'{name}.yaml').exists():
        return folder / f'{name}.yaml'
    names = ', '.join(sorted(file.stem for file in folder.glob('*.yaml')))
    raise UserError(f'profile {name!r} is no file and none of those that are shipped: {names}')


def read_profile(path: Path) -> tuple[RobotProfile | None, list[Problem]]:
    """Read a profile and everything that is wrong with it; None where it makes no sense."""
    problems: list[Problem] = []
    top = read_document(path, problems)
    if top is None:
        return None, problems
    profile = _profile(top)
    problems.sort(key=lambda problem: problem.line)
    return profile, problems


def _profile(top: Section) -> RobotProfile:
    cameras = _cameras(top)
    pose = top.section('end_effector_pose')
    states = top.section('joint_states')
    joints = tuple(_joint(section) for section in top.sections('joints'))
    names = [joint.name for joint in joints]
    for joint in joints:
        if names.count(joint.name) > 1:
            top.problem(f'joints: {joint.name!r} is there more than once', joint.line)
            break
    action = _action(top.section('action'))
    profile = RobotProfile(
        robot=top.text('robot') or '?',
        base_frame=top.text('base_frame') or '?',
        end_effector_frame=top.text('end_effector_frame') or '?',
        cameras=cameras,
        outputs=tuple(_output(section, names) for section in top.sections('outputs', True)),
        simulated=top.flag('simulated', False),
        run_on_hardware=top.flag('run_on_hardware'),
        max_camera_skew_s=top.positive('max_camera_skew', 'time', 0.05),
        joints=joints,
        gripper=_gripper(top.section('gripper')),
        action=action,
        settings=_settings(top),
        **_pose_source(pose),
        **_joint_states(states),
    )
    _check_outputs(top, profile)
    top.close()
    return profile


def _cameras(top):
    section = top.section('cameras', required=True)
    if section is None:
        return ()
    return tuple(_camera(name, section.section(name)) for name in section.keys())


def _camera(name, section):
    transport = section.text('transport', 'raw', ('raw', 'compressed'))
    intrinsics = section.section('intrinsics')
    info_topic = section.text('info_topic', '') or None
    if intrinsics is not None and info_topic is not None:
        section.problem(
            f'{section.path}: intrinsics and info_topic are both given; keep one',
            section.line_of('intrinsics'),
        )
    fixed = None
    if intrinsics is not None:
        fixed = _intrinsics(intrinsics)
    extrinsics = section.section('extrinsics')
    source, topic, pose = 'none', 'camera/extrinsics', Pose()
    if extrinsics is not None:
        source = extrinsics.text('source', choices=('topic', 'tf', 'fixed', 'none')) or 'none'
        if source == 'topic':
            topic = extrinsics.text('topic') or topic
        elif source == 'fixed':
            pose = _pose(extrinsics)
        extrinsics.close()
    camera = Camera(
        name,
        section.text('topic') or '?',
        transport == 'compressed',
        section.text('optical_frame') or '?',
        info_topic,
        fixed,
        source,
        topic,
        pose,
    )
    section.close()
    return camera


def _intrinsics(section):
    values = {}
    for name in ('width', 'height'):
        values[name] = int(section.positive(name, 'ratio', required=True) or 1)
    for name in ('fx', 'fy', 'cx', 'cy'):
        values[name] = section.positive(name, 'ratio', required=True) or 1.0
    section.close()
    return Intrinsics(**values)


def _pose(section, required=True):
    position = section.numbers('position', 'length', 3, required) or (0.0, 0.0, 0.0)
    quaternion = section.numbers('quaternion_xyzw', 'ratio', 4, required)
    if quaternion is not None and abs(math.hypot(*quaternion) - 1) > 1e-3:
        section.problem(
            f'{section.name("quaternion_xyzw")} has length '
            f'{math.hypot(*quaternion):.4f}, expected 1',
            section.line_of('quaternion_xyzw'),
        )
        quaternion = None
    return Pose(position, quaternion or (0.0, 0.0, 0.0, 1.0))


def _pose_source(section):
    if section is None:
        return {}
    source = section.text('source', choices=('topic', 'tf')) or 'topic'
    values = {'pose_source': source}
    if source == 'topic':
        values['pose_topic'] = section.text('topic') or 'end_effector_pose'
    section.close()
    return values


def _joint_states(section):
    if section is None:
        return {}
    mapping = section.section('policy_names')
    names = {}
    if mapping is not None:
        names = {name: mapping.text(name) or name for name in mapping.keys()}
    topic = section.text('topic') or 'joint_states'
    section.close()
    return {'joint_states_topic': topic, 'policy_joints': names}


def _joint(section):
    kind = section.text('type', 'revolute', _KINDS)
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


def _gripper(section):
    if section is None:
        return Gripper()
    joint = section.text('joint', '')
    dimension = {'rad': 'angle', 'm': 'length', '1': 'ratio'}.get(
        section.text('unit', 'm', ('m', 'rad', '1')), 'length'
    )
    opened = section.number('open', dimension, 0.0, required=bool(joint))
    closed = section.number('closed', dimension, 1.0, required=bool(joint))
    if opened == closed:
        section.problem(
            f'{section.path}: open and closed are the same position, {opened:g}',
            section.line_of('closed'),
        )
    assumed = section.number('assumed', 'ratio', None, low=0.0, high=1.0)
    if joint and assumed is not None:
        section.problem(
            f'{section.path}: joint measures it and assumed replaces that; leave one of them out',
            section.line_of('assumed'),
        )
    outputs = tuple(_gripper_output(part) for part in section.sections('outputs'))
    section.close()
    return Gripper(joint, opened, closed, outputs, assumed)


def _gripper_output(section):
    kind = section.text('type', choices=GRIPPER_OUTPUTS) or 'float64'
    topic = section.text('topic' if kind == 'float64' else 'action')
    values = {
        'kind': kind,
        'topic': topic or '?',
        'opened': section.number('open', 'ratio', 0.0),
        'closed': section.number('closed', 'ratio', 1.0),
    }
    if kind != 'float64':
        values['max_effort'] = section.number('max_effort', 'ratio', 0.0, low=0.0)
    if kind == 'parallel_gripper_command':
        values['joint'] = section.text('joint') or '?'
    if values['opened'] == values['closed']:
        section.problem(f'{section.path}: open and closed are the same value')
    section.close()
    return GripperOutput(**values)


def _action(section):
    if section is None:
        return Action()
    space = section.text('space', TWIST, SPACES)
    frame = section.section('policy_frame')
    scales = {
        name: section.positive(name, 'ratio', 1.0)
        for name in ('linear_scale', 'angular_scale', 'joint_scale')
    }
    pose = Pose()
    if frame is not None:
        pose = _pose(frame)
        frame.close()
    renamed = section.section('columns')
    columns = {}
    if renamed is not None:
        columns = {name: renamed.text(name) or name for name in renamed.keys()}
    section.close()
    return Action(space, **scales, columns=columns, policy_frame=pose)


def _output(section, joint_names):
    kind = section.text('type', choices=TWIST_OUTPUTS + JOINT_OUTPUTS) or 'twist_stamped'
    values = {'kind': kind, 'topic': section.text('topic') or '?', 'line': section.line}
    if kind in TWIST_OUTPUTS:
        values['frame'] = section.text('frame', '')
    else:
        values['joints'] = section.names('joints') or tuple(joint_names)
        for name in values['joints']:
            if name not in joint_names:
                section.problem(
                    f'{section.path}: joint {name!r} is not in the list joints',
                    section.line_of('joints'),
                )
    if kind == 'joint_trajectory':
        values['horizon_s'] = section.number('horizon', 'time', 0.1, low=0.02, high=MAX_HORIZON_S)
    if kind == 'float64_multi_array':
        values['interface'] = (
            section.text('interface', choices=('position', 'velocity')) or 'position'
        )
        stops = section.flag('controller_stops_by_itself', False)
        if values['interface'] == 'velocity' and not stops:
            section.problem(
                f'{section.path}: a forward controller keeps the last velocity for ever when the '
                'node is killed; use interface: position, or say controller_stops_by_itself: '
                'true if your controller has a command timeout',
                section.line_of('interface'),
            )
    section.close()
    return Output(**values)


def _settings(top):
    values = {}
    for name, table in (('limits', LIMITS), ('rates', RATES)):
        section = top.section(name)
        if section is None:
            continue
        for key, (parameter, dimension) in table.items():
            value = section.positive(key, dimension)
            if value is not None:
                values[parameter] = value
        if name == 'limits':
            for end in ('low', 'high'):
                corner = section.numbers(f'workspace_{end}', 'length', 3)
                if corner is not None:
                    values[f'workspace_{end}_m'] = list(corner)
            _check_limits(section, values)
        section.close()
    return values


def _check_limits(section, values) -> None:
    low, high = values.get('workspace_low_m'), values.get('workspace_high_m')
    if (low is None) != (high is None):
        section.problem('limits: workspace_low and workspace_high must be given together')
    elif low is not None and not all(a < b for a, b in zip(low, high)):
        section.problem(
            'limits: workspace_low is not below workspace_high on every axis',
            section.line_of('workspace_low'),
        )
    for stop, motion, key in (
        ('stop_deceleration_m_s2', 'max_linear_acceleration_m_s2', 'stop_deceleration'),
        ('stop_jerk_m_s3', 'max_linear_jerk_m_s3', 'stop_jerk'),
    ):
        if stop in values and motion in values and values[stop] < values[motion]:
            section.problem(
                f'limits.{key} is {values[stop]:g}, below {motion} '
                f'{values[motion]:g}: stopping may not be gentler than moving',
                section.line_of(key),
            )


def _check_outputs(top, profile) -> None:
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
    workspace = 'workspace_low_m' in profile.settings
    if not profile.joint_space and not workspace:
        top.problem(
            'limits: workspace_low and workspace_high are missing; with twists the '
            'workspace is what keeps the arm off the table',
            top.line_of('limits'),
        )
    if profile.joint_space and workspace:
        top.problem(
            'limits: a workspace cannot be kept in joint space; the limits of the joints '
            'are what counts',
            top.line_of('limits'),
        )
    topics = [output.topic for output in profile.outputs]
    for output in profile.outputs:
        if topics.count(output.topic) > 1:
            top.problem(f'outputs: topic {output.topic!r} is there more than once', output.line)
            break
