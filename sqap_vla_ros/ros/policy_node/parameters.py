"""The policy node's parameters: one table that declares, describes and checks them."""

from dataclasses import replace
import math
import os
from pathlib import Path

from rcl_interfaces.msg import SetParametersResult

from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.ros.common.setting import Setting

SETTINGS = (
    Setting(
        'policy', '', 'directory of the policy, as made by `sqap_vla compress`', read_only=True
    ),
    Setting(
        'profile',
        'sim_sawyer',
        'robot profile: a YAML file, or the name of one that is '
        'shipped; it sets the defaults of the parameters that describe the robot',
        read_only=True,
    ),
    Setting(
        'acknowledge_untested_profile',
        False,
        'command although the profile has never run on its robot',
        read_only=True,
    ),
    Setting(
        'dry_run',
        False,
        'do everything, but send the commands to ~/dry_run/TOPIC, where no controller listens',
        read_only=True,
    ),
    Setting('device', 'cpu', "where inference runs: 'cpu', 'cuda' or 'cuda:N'", read_only=True),
    Setting('threads', 1, 'CPU threads of inference', 1, 256, read_only=True),
    Setting(
        'cuda_graphs',
        'auto',
        "replay an inference's operations as one CUDA graph: 'auto' "
        "(on CUDA devices, where they can be recorded), 'on' (an error where they cannot) or "
        "'off'",
        read_only=True,
    ),
    Setting(
        'inference_process',
        True,
        'run inference in a process of its own (recommended) instead of a thread',
        read_only=True,
    ),
    Setting(
        'autostart',
        False,
        'configure and activate by itself when the node starts; the arm '
        'does not move before a goal, ~/resume or an instruction',
        read_only=True,
    ),
    Setting(
        'base_frame', 'base', 'frame of the commands and of the end-effector pose', read_only=True
    ),
    Setting(
        'gripper_joint',
        'r_close',
        'name in joint_states that tells how far the gripper is '
        'closed; empty: the policy is not told',
        read_only=True,
    ),
    Setting('gripper_open_position', 0.0, 'its position when open, m or rad', read_only=True),
    Setting('gripper_closed_position', 0.04, 'its position when closed, m or rad', read_only=True),
    Setting(
        'max_image_pixels',
        16_000_000,
        'larger images are rejected unread',
        1,
        1_000_000_000,
        read_only=True,
    ),
    Setting('start_on_instruction', False, 'let an instruction on the topic start motion'),
    Setting('preempt_goals', True, 'a new goal ends the one that runs; false: it is rejected'),
    Setting('max_instruction_length', 256, 'characters', 1, 10_000),
    Setting('default_max_duration_s', 30.0, 'of goals that name no duration, s', 0.1, 86_400.0),
    Setting(
        'goal_input_timeout_s',
        2.0,
        'a goal waits for images and states that are not there '
        'for so long, s; then it ends with an error',
        0.0,
        60.0,
    ),
    Setting('inference_rate_hz', 5.0, 'inferences a second, at most', 0.1, 200.0),
    Setting(
        'inference_deadline_s',
        2.0,
        'an inference without an answer for so long counts as '
        'hung: hold, and start the worker again, s',
        0.05,
        600.0,
    ),
    Setting(
        'execution_mode',
        'sequential',
        'how chunks that overlap are combined: sequential '
        '(the newest counts), temporal_ensemble, adaptive_ensemble, or real_time_chunking '
        '(the newest, inferred as a continuation of the one before; diffusion and flow heads)',
        read_only=True,
    ),
    Setting(
        'token_governor',
        False,
        'keep fewer visual tokens while inferences take longer than '
        'their period; never in fine motion; read when the node is configured',
    ),
    Setting(
        'black_box_s',
        10.0,
        'seconds that the black box remembers, 0: none',
        0.0,
        600.0,
        read_only=True,
    ),
    Setting(
        'black_box_directory',
        '',
        'where bags of the black box are written; empty: '
        'sqap_vla_black_box in $ROS_HOME or ~/.ros',
        read_only=True,
    ),
    Setting('command_rate_hz', 50.0, 'commands a second', 1.0, 500.0),
    Setting(
        'observation_timeout_s',
        0.5,
        'hold when the image, pose or joint states are older '
        'than this on the steady clock, s; read when the node is configured',
        0.02,
        60.0,
    ),
    Setting(
        'hold_on_frozen_camera',
        False,
        'hold when ten images in a row are the same byte for '
        'byte; otherwise only a warning; read when the node is configured',
    ),
    Setting(
        'max_stamp_age_s',
        1.0,
        'reject messages whose stamp is older than this, or newer '
        'than 0.1 s, on the clock of the node, s',
        0.02,
        600.0,
    ),
    Setting('max_linear_speed_m_s', 0.25, 'end effector, m/s', 0.001, 5.0),
    Setting('max_angular_speed_rad_s', 0.8, 'end effector, rad/s', 0.001, 20.0),
    Setting('max_linear_acceleration_m_s2', 1.5, 'end effector, m/s^2', 0.01, 100.0),
    Setting('max_linear_jerk_m_s3', 30.0, 'end effector, m/s^3', 0.1, 10_000.0),
    Setting(
        'stop_deceleration_m_s2',
        2.0,
        'end effector while stopping, m/s^2; at least max_linear_acceleration_m_s2',
        0.01,
        100.0,
    ),
    Setting('stop_jerk_m_s3', 60.0, 'end effector while stopping, m/s^3', 0.1, 10_000.0),
    Setting(
        'workspace_low_m',
        [-0.35, 0.38, 0.01],
        'lowest x, y, z of the end effector in the base frame, m',
    ),
    Setting(
        'workspace_high_m',
        [0.35, 0.95, 0.40],
        'highest x, y, z of the end effector in the base frame, m',
    ),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


def black_box_directory(values: dict[str, object]) -> Path:
    """Where the black box is written."""
    if values['black_box_directory']:
        return Path(values['black_box_directory']).expanduser()
    return Path(os.environ.get('ROS_HOME') or '~/.ros').expanduser() / 'sqap_vla_black_box'


def motion_limits(values: dict[str, object]) -> MotionLimits:
    """Limits that the parameters describe. Raises ValueError naming the field that is wrong."""
    return MotionLimits(
        workspace_low_m=tuple(values['workspace_low_m']),
        workspace_high_m=tuple(values['workspace_high_m']),
        linear_speed_m_s=values['max_linear_speed_m_s'],
        angular_speed_rad_s=values['max_angular_speed_rad_s'],
        linear_acceleration_m_s2=values['max_linear_acceleration_m_s2'],
        linear_jerk_m_s3=values['max_linear_jerk_m_s3'],
        stop_deceleration_m_s2=values['stop_deceleration_m_s2'],
        stop_jerk_m_s3=values['stop_jerk_m_s3'],
    )


def declare(node) -> tuple[dict[str, object], RobotProfile]:
    """
    Declare every setting on a node; returns name to value, and the robot's profile.

    What the profile says takes the place of a default: a parameter that is given counts more.
    Raises UserError for a profile that is wrong.
    """
    setting = BY_NAME['profile']
    name = node.declare_parameter(setting.name, setting.default, setting.descriptor()).value
    profile = load_profile(name)
    defaults = profile_defaults(profile)
    values = {
        s.name: node.declare_parameter(
            s.name, defaults.get(s.name, s.default), s.descriptor()
        ).value
        for s in SETTINGS
        if s is not setting
    }
    return {setting.name: name, **values}, replace(profile, base_frame=values['base_frame'])


def profile_defaults(profile: RobotProfile) -> dict[str, object]:
    """Parameters that a profile sets."""
    gripper = profile.gripper
    return {
        'base_frame': profile.base_frame,
        'gripper_joint': gripper.joint,
        'gripper_open_position': gripper.opened,
        'gripper_closed_position': gripper.closed,
        **profile.settings,
    }


def check_acknowledged(settings: dict[str, object], profile: RobotProfile) -> None:
    """Raise UserError for an untested profile that nobody vouches for; a dry run needs nobody."""
    if (
        profile.needs_acknowledgement
        and not settings['acknowledge_untested_profile']
        and not settings['dry_run']
    ):
        raise UserError(
            f'profile {settings["profile"]}: it has never run on a {profile.robot}; try it in a '
            'dry run (dry_run:=true; in the launch files command:=false), then, with a hand on '
            'the emergency stop, set acknowledge_untested_profile:=true'
        )


def check_change(current: dict[str, object], changes: list) -> SetParametersResult:
    """
    Judge parameters that are about to be set together: all or none.

    Ranges and types are the descriptors' business, except NaN, which passes every range.
    """
    values = dict(current)
    for parameter in changes:
        setting = BY_NAME.get(parameter.name)
        if setting is None:
            continue
        problem = _problem(setting, parameter.value)
        if problem:
            return SetParametersResult(successful=False, reason=f'{parameter.name}: {problem}')
        values[parameter.name] = parameter.value
    try:
        motion_limits(values)
    except ValueError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _problem(setting, value) -> str | None:
    if isinstance(setting.default, list):
        if len(value) != len(setting.default) or not all(map(math.isfinite, value)):
            return f'expected {len(setting.default)} finite numbers'
    elif isinstance(setting.default, float) and not math.isfinite(value):
        return f'{value} is not a finite number'
    return None
