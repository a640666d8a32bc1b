"""The parameters of the policy node: one frozen dataclass that declares, describes and checks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from sqap_vla_ros.control.chunk_executor import Mode
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.ranges import PARAMETERS
from sqap_vla_ros.profiles.reading import load_profile
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.resources import ros_home
from sqap_vla_ros.ros.common.setting import declare, setting, settings_of
from sqap_vla_ros.runtime_options import RuntimeOptions

LIMITS = MotionLimits()
"""Source of the default limits."""


@dataclass(frozen=True)
class PolicyNodeSettings:
    """Values of all parameters of the policy node at one moment."""

    policy: str = setting(
        '', 'directory of the policy, float or made by `sqap_vla compress`', read_only=True
    )
    recipe: str = setting(
        '',
        'recipe (a name, see `sqap_vla recipes`, or a file) with which a float policy is '
        'compressed at configure, into sqap_vla_ros/policies in $ROS_HOME or ~/.ros, where it is '
        'found again as long as policy and recipe stay the same; empty or none: the policy runs '
        'as it is',
        read_only=True,
    )
    profile: str = setting(
        'sim_sawyer',
        'robot profile: a YAML file, or the name of a shipped profile; it sets the defaults of '
        'the parameters that describe the robot',
        read_only=True,
    )
    acknowledge_untested_profile: bool = setting(
        False, 'command although the profile has never run on its robot', read_only=True
    )
    dry_run: bool = setting(
        False,
        'do everything, but send the commands to ~/dry_run/TOPIC, where no controller listens',
        read_only=True,
    )
    device: str = setting(
        'cpu', 'where inference runs', read_only=True, choices=('cpu', 'cuda', 'cuda:N')
    )
    threads: int = setting(1, 'CPU threads of inference', 1, 256, read_only=True)
    cuda_graphs: str = setting(
        'auto',
        'replay the operations of an inference as one CUDA graph: auto (on CUDA devices, where '
        'they can be recorded), on (an error where they cannot) or off; quote on and off, which '
        'are truth values in YAML',
        read_only=True,
        choices=('auto', 'on', 'off'),
    )
    inference_process: bool = setting(
        True,
        'run inference in its own process (recommended) instead of in a thread',
        read_only=True,
    )
    autostart: bool = setting(
        False,
        'configure and activate the node when it starts; the arm does not move before a goal, '
        '~/resume or an instruction',
        read_only=True,
    )
    base_frame: str = setting(
        'base', 'frame of the commands and of the end-effector pose', read_only=True
    )
    gripper_joint: str = setting(
        'r_close',
        'joint in joint_states that measures how far the gripper is closed; empty: no joint does',
        read_only=True,
    )
    gripper_open_position: float = setting(
        0.0, 'position of gripper_joint when open, m or rad', read_only=True
    )
    gripper_closed_position: float = setting(
        0.04, 'position of gripper_joint when closed, m or rad', read_only=True
    )
    max_image_pixels: int = setting(
        16_000_000, 'larger images are rejected unread', 1, 1_000_000_000, read_only=True
    )
    start_on_instruction: bool = setting(
        False, 'let an instruction on the topic start motion', keeps='below'
    )
    preempt_goals: bool = setting(
        True, 'a new goal replaces the running one; false: the new one is rejected'
    )
    max_instruction_length: int = setting(
        256, 'longest accepted instruction, characters', 1, 10_000
    )
    default_max_duration_s: float = setting(
        30.0, 'duration of goals that set none, s', 0.1, 86_400.0
    )
    goal_input_timeout_s: float = setting(
        2.0,
        'how long a goal waits for missing images and states before it ends with an error, s',
        0.0,
        60.0,
    )
    inference_rate_hz: float = setting(
        5.0, 'maximum rate of inferences, Hz', *PARAMETERS['inference_rate_hz']
    )
    inference_deadline_s: float = setting(
        2.0,
        'an inference that takes longer counts as hung: the arm holds and the worker is '
        'restarted, s',
        0.05,
        600.0,
        keeps='below',
    )
    policy_load_timeout_s: float = setting(
        120.0,
        'a policy that is not loaded, compiled and warmed up after this time is given up, s',
        1.0,
        86_400.0,
    )
    execution_mode: str = setting(
        'sequential',
        'how overlapping chunks are combined: sequential (the newest counts), temporal_ensemble, '
        'adaptive_ensemble, or real_time_chunking (the newest, inferred as a continuation of '
        'the one before; diffusion and flow heads)',
        read_only=True,
        choices=tuple(mode.value for mode in Mode),
    )
    token_governor: bool = setting(
        False,
        'keep fewer visual tokens while inferences take longer than their period; never in fine '
        'motion; read when the node is configured',
    )
    black_box_s: float = setting(
        10.0, 'length of the black box, s; 0: no black box', 0.0, 600.0, read_only=True
    )
    black_box_mb: int = setting(
        256,
        'most memory of the black box, MB: large images become JPEGs, then the oldest leave, and '
        'a bag covers less than black_box_s',
        16,
        16_000,
        read_only=True,
    )
    black_box_directory: str = setting(
        '',
        'where bags of the black box are written; empty: sqap_vla_black_box in $ROS_HOME or '
        '~/.ros',
        read_only=True,
    )
    command_rate_hz: float = setting(50.0, 'rate of commands, Hz', *PARAMETERS['command_rate_hz'])
    observation_timeout_s: float = setting(
        0.5,
        'hold when the image, pose or joint states are older than this on the steady clock, s; '
        'read when the node is configured',
        0.02,
        60.0,
        keeps='below',
    )
    hold_on_frozen_camera: bool = setting(
        False,
        'hold when ten consecutive images are identical while the arm moves; otherwise only a '
        'warning; read when the node is configured',
        keeps='above',
    )
    max_stamp_age_s: float = setting(
        1.0,
        'reject messages whose stamp is older than this, or more than 0.1 s in the future, on '
        'the clock of the node, s',
        0.02,
        600.0,
        keeps='below',
    )
    max_linear_speed_m_s: float = setting(
        LIMITS.linear_speed_m_s,
        'end effector, m/s',
        *PARAMETERS['max_linear_speed_m_s'],
        keeps='below',
    )
    max_angular_speed_rad_s: float = setting(
        LIMITS.angular_speed_rad_s,
        'end effector, rad/s',
        *PARAMETERS['max_angular_speed_rad_s'],
        keeps='below',
    )
    max_linear_acceleration_m_s2: float = setting(
        LIMITS.linear_acceleration_m_s2,
        'end effector, m/s^2',
        *PARAMETERS['max_linear_acceleration_m_s2'],
        keeps='below',
    )
    max_linear_jerk_m_s3: float = setting(
        LIMITS.linear_jerk_m_s3,
        'end effector, m/s^3',
        *PARAMETERS['max_linear_jerk_m_s3'],
        keeps='below',
    )
    stop_deceleration_m_s2: float = setting(
        LIMITS.stop_deceleration_m_s2,
        'end effector while stopping, m/s^2; at least max_linear_acceleration_m_s2',
        *PARAMETERS['stop_deceleration_m_s2'],
        read_only=True,
    )
    stop_jerk_m_s3: float = setting(
        LIMITS.stop_jerk_m_s3,
        'end effector while stopping, m/s^3; at least max_linear_jerk_m_s3',
        *PARAMETERS['stop_jerk_m_s3'],
        read_only=True,
    )
    workspace_low_m: tuple[float, float, float] = setting(
        LIMITS.workspace_low_m,
        'lowest x, y, z of the end effector in the base frame, m',
        *PARAMETERS['workspace_low_m'],
        keeps='above',
    )
    workspace_high_m: tuple[float, float, float] = setting(
        LIMITS.workspace_high_m,
        'highest x, y, z of the end effector in the base frame, m',
        *PARAMETERS['workspace_high_m'],
        keeps='below',
    )

    def motion_limits(self) -> MotionLimits:
        """
        Make the motion limits of these parameters.

        Raises:
            ValueError: Two limits contradict each other; names the field.
        """
        return MotionLimits(
            workspace_low_m=self.workspace_low_m,
            workspace_high_m=self.workspace_high_m,
            linear_speed_m_s=self.max_linear_speed_m_s,
            angular_speed_rad_s=self.max_angular_speed_rad_s,
            linear_acceleration_m_s2=self.max_linear_acceleration_m_s2,
            linear_jerk_m_s3=self.max_linear_jerk_m_s3,
            stop_deceleration_m_s2=self.stop_deceleration_m_s2,
            stop_jerk_m_s3=self.stop_jerk_m_s3,
        )

    def runtime(self) -> RuntimeOptions:
        """Make the options that a policy is loaded with."""
        return RuntimeOptions(
            device=self.device, threads=self.threads, cuda_graphs=self.cuda_graphs
        )


SETTINGS = settings_of(PolicyNodeSettings)
BY_NAME = {entry.name: entry for entry in SETTINGS}


def black_box_directory(settings: PolicyNodeSettings) -> Path:
    """Directory that the black box is written to."""
    if settings.black_box_directory:
        return Path(settings.black_box_directory).expanduser()
    return ros_home() / 'sqap_vla_black_box'


def declare_settings(node: Node) -> tuple[PolicyNodeSettings, RobotProfile]:
    """
    Declare every parameter on a node.

    The profile replaces the defaults of the parameters that describe the robot. A parameter that
    the user sets overrides the profile.

    Args:
        node: The policy node.

    Returns:
        The values, and the profile of the robot with `base_frame` applied, and without
        `gripper.assumed` where `gripper_joint` measures it.

    Raises:
        UserError: The profile or a value is wrong.
    """
    profile = load_profile(BY_NAME['profile'].declare(node))
    settings = declare(node, PolicyNodeSettings, profile_defaults(profile))
    _check_gripper_given(node, settings, profile)
    try:
        settings.motion_limits()
    except ValueError as error:
        raise UserError(f'parameters: {error}') from None
    if settings.gripper_joint and (
        settings.gripper_open_position == settings.gripper_closed_position
    ):
        raise UserError(
            'parameters: gripper_open_position and gripper_closed_position are both '
            f'{settings.gripper_open_position:g}, expected two positions of gripper_joint, '
            f'{settings.gripper_joint!r}'
        )
    for entry in SETTINGS:
        # Whoever starts the node may know better than the profile, and should know that he does.
        given = profile.settings.get(entry.name)
        if given is not None and entry.loosened(getattr(settings, entry.name), given):
            node.get_logger().warning(
                f'parameter {entry.name} is {getattr(settings, entry.name)}, beyond the '
                f'{given} of the profile; lower the parameter, or correct the profile'
            )
    if settings.base_frame != profile.base_frame:
        node.get_logger().warning(
            f'base_frame is {settings.base_frame!r}, in the profile {profile.base_frame!r}: '
            'workspace, policy_frame and poses of fixed cameras now count in it'
        )
    gripper = profile.gripper
    if settings.gripper_joint:
        gripper = replace(gripper, assumed=None)
    return settings, replace(profile, base_frame=settings.base_frame, gripper=gripper)


def _check_gripper_given(node: Node, settings: PolicyNodeSettings, profile: RobotProfile) -> None:
    """Raise UserError where the parameter names a joint and the profile has another one's ends."""
    if not settings.gripper_joint or settings.gripper_joint == profile.gripper.joint:
        return
    for name in ('gripper_open_position', 'gripper_closed_position'):
        if name not in node._parameter_overrides:
            raise UserError(
                f'parameters: gripper_joint is {settings.gripper_joint!r}, in the profile '
                f'{profile.gripper.joint!r}; set {name} as well'
            )


def profile_defaults(profile: RobotProfile) -> dict[str, Any]:
    """Parameters that a profile sets, by name."""
    gripper = profile.gripper
    return {
        'base_frame': profile.base_frame,
        'gripper_joint': gripper.joint,
        'gripper_open_position': gripper.opened,
        'gripper_closed_position': gripper.closed,
        **profile.settings,
    }


def check_acknowledged(settings: PolicyNodeSettings, profile: RobotProfile) -> None:
    """
    Refuse to command with a profile that has never run on its robot; a dry run is allowed.

    Raises:
        UserError: The user has not acknowledged it.
    """
    if (
        profile.needs_acknowledgement
        and not settings.acknowledge_untested_profile
        and not settings.dry_run
    ):
        raise UserError(
            f'profile {settings.profile}: it has never run on a {profile.robot}; try it in a '
            'dry run (dry_run:=true; in the launch files command:=false), then, with a hand on '
            'the emergency stop, set acknowledge_untested_profile:=true'
        )


def changed(
    current: PolicyNodeSettings,
    changes: Iterable[Parameter],
    started: PolicyNodeSettings | None = None,
) -> PolicyNodeSettings:
    """
    Apply parameters that are set together: all or none.

    Args:
        current: Values so far.
        changes: Parameters that are being set; those of other owners are ignored.
        started: Values that the node was started with: no limit may be loosened beyond them.
            None: `current`.

    Returns:
        The new values.

    Raises:
        ValueError: One of them is wrong, in a line that names it.
    """
    values: dict[str, Any] = {}
    for parameter in changes:
        entry = BY_NAME.get(parameter.name)
        if entry is None:
            continue
        value = parameter.value
        first = getattr(started or current, parameter.name)
        problem = entry.problem(value) or entry.loosened(value, first)
        if problem:
            raise ValueError(f'{parameter.name} {problem}')
        values[parameter.name] = tuple(value) if isinstance(entry.default, tuple) else value
    settings = replace(current, **values)
    settings.motion_limits()
    return settings
