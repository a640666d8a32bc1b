"""The contents of a robot profile, in SI units; `reading.py` reads them from YAML."""

from dataclasses import dataclass, field
import math

MAX_HORIZON_S = 0.2
"""Longest trajectory that is sent, seconds: how long an arm keeps moving if the node is killed."""
COLOR_ORDERS = ('rgb', 'bgr', 'mono')
TWIST, JOINT_VELOCITY, JOINT_POSITION = 'twist', 'joint_velocity', 'joint_position'
SPACES = (TWIST, JOINT_VELOCITY, JOINT_POSITION)
# Lists, because `register_output` of ros/policy_node/outputs/registry.py appends to them.
TWIST_OUTPUTS = ['twist_stamped']
TRAJECTORIES = ('joint_trajectory', 'joint_trajectory_chunk')
"""Outputs that send trajectories, which end after `Output.horizon_s`."""
JOINT_OUTPUTS = [*TRAJECTORIES, 'float64_multi_array', 'joint_state']
GRIPPER_OUTPUTS = ['float64', 'gripper_command', 'parallel_gripper_command']


@dataclass(frozen=True)
class Pose:
    """Pose of a frame in another one."""

    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quaternion_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Intrinsics:
    """Intrinsics of a pinhole camera, pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Camera:
    """A camera: its image topic, intrinsics and pose."""

    name: str
    """The policy's name for it."""
    topic: str
    compressed: bool = False
    optical_frame: str = 'camera_optical_frame'
    info_topic: str | None = None
    """Topic of sensor_msgs/CameraInfo; None: `intrinsics` are used, or nothing is known."""
    intrinsics: Intrinsics | None = None
    extrinsics: str = 'none'
    """Where the pose of the optical frame comes from: 'topic', 'tf', 'fixed' or 'none'."""
    extrinsics_topic: str = 'camera/extrinsics'
    pose: Pose = Pose()
    """Pose of the optical frame in the base frame; used with `extrinsics: fixed`."""
    color_order: str | None = None
    """One of `COLOR_ORDERS`: what the samples of encodings that do not say it (8UC1, 8UC3, 8UC4)
    are; None: such images are refused."""
    rectified: bool = False
    """Whether the image is undistorted, so that `p` of CameraInfo holds and not `k` and `d`."""


@dataclass(frozen=True)
class Joint:
    """Limits of one joint; rad, or m for a prismatic one. None: the profile gives no value."""

    name: str
    kind: str = 'revolute'
    """'revolute', 'continuous' or 'prismatic'."""
    lower: float = -math.inf
    upper: float = math.inf
    velocity: float | None = None
    acceleration: float | None = None
    jerk: float | None = None
    line: int = 0
    """Line of the profile, for messages."""
    calibrated_range: tuple[float, float] | None = None
    """Positions, rad or m, that -100 (or 0) and 100 stand for in policies trained in percent of
    the calibrated range; None: not known."""
    policy_zero: float = 0.0
    """Position, rad or m, where the policy's zero is; for other policies."""
    policy_direction: int = 1
    """1, or -1 where the policy counts the other way round; for other policies."""


@dataclass(frozen=True)
class Tracking:
    """How far the robot may be from where its commands lead; farther, and it holds."""

    position_error_m: float = 0.05
    """Of the end effector, where twists are commanded."""
    orientation_error_rad: float = 0.3
    revolute_error_rad: float = 0.1
    """Of each joint, where joints are commanded."""
    prismatic_error_m: float = 0.03
    delay_s: float = 0.1
    """How long the robot may lag behind its commands."""


@dataclass(frozen=True)
class GripperOutput:
    """One topic or action that commands the gripper."""

    kind: str = 'float64'
    topic: str = 'gripper_command'
    """Topic, or name of the action."""
    opened: float = 0.0
    """Value sent for 0."""
    closed: float = 1.0
    """Value sent for 1."""
    max_effort: float | None = None
    """N or Nm; None: the goal names none, so that the controller uses its own. Always a number
    for gripper_command, whose goals cannot leave it out. Not used by float64."""
    joint: str = ''
    """Joint name in the goal; used by parallel_gripper_command."""


@dataclass(frozen=True)
class Gripper:
    """How the gripper is measured and commanded."""

    joint: str = ''
    """Its name in the joint states; empty: not measured."""
    opened: float = 0.0
    """Position of that joint when open, m or rad."""
    closed: float = 1.0
    """Position of that joint when closed, m or rad."""
    outputs: tuple[GripperOutput, ...] = ()
    assumed: float | None = None
    """Value for the policy where no joint measures it, 0 (open) .. 1 (closed); None: no value."""
    line: int = 1
    """Line of the profile, for messages."""


@dataclass(frozen=True)
class Output:
    """One topic on which the arm is commanded."""

    kind: str
    topic: str
    frame: str = ''
    """Frame in which twists are given: the base frame or that of the end effector; empty: the
    base frame."""
    joints: tuple[str, ...] = ()
    """Order of the joints; empty: the order of the profile."""
    horizon_s: float = 0.1
    """Of trajectories: time until the arm stops when no further message arrives."""
    interface: str = 'position'
    """Of float64_multi_array: 'position' or 'velocity'."""
    line: int = 0


@dataclass(frozen=True)
class Action:
    """What the policy's action means on this robot."""

    space: str = TWIST
    linear_scale: float = 1.0
    angular_scale: float = 1.0
    joint_scale: float = 1.0
    columns: dict[str, str] = field(default_factory=dict)
    """Name of an action column to its name on this robot, for example 'linear.x' to
    'joint_velocity.slide_x' on a gantry."""
    policy_frame: Pose = Pose()
    """Pose, in the base frame, of the frame in which the policy was trained."""


@dataclass(frozen=True)
class RobotProfile:
    """Everything specific to a robot."""

    robot: str
    base_frame: str
    end_effector_frame: str
    cameras: tuple[Camera, ...]
    outputs: tuple[Output, ...]
    simulated: bool = False
    run_on_hardware: bool = False
    """Whether this profile has been used on the real robot."""
    max_camera_skew_s: float = 0.05
    """Largest difference between the stamps of images that are used together, seconds."""
    pose_source: str = 'topic'
    """'topic' or 'tf'."""
    pose_topic: str = 'end_effector_pose'
    joint_states_topic: str = 'joint_states'
    policy_joints: dict[str, str] = field(default_factory=dict)
    """The policy's joint names to the robot's, where they differ."""
    joints: tuple[Joint, ...] = ()
    gripper: Gripper = Gripper()
    action: Action = Action()
    tracking: Tracking = Tracking()
    settings: dict[str, object] = field(default_factory=dict)
    """Values for parameters of the policy node, by parameter name."""

    @property
    def needs_acknowledgement(self) -> bool:
        """Whether the user must acknowledge that the profile is untested before it commands."""
        return not (self.simulated or self.run_on_hardware)

    @property
    def joint_space(self) -> bool:
        """Whether actions are joint velocities or positions."""
        return self.action.space != TWIST

    @property
    def input_topics(self) -> tuple[str, ...]:
        """Topics that policies may read: cameras and what describes them, pose and joints."""
        topics = [self.joint_states_topic]
        if self.pose_source == 'topic':
            topics.append(self.pose_topic)
        for camera in self.cameras:
            topics += [camera.topic, *([camera.info_topic] if camera.info_topic else [])]
            topics += [camera.extrinsics_topic] if camera.extrinsics == 'topic' else []
        return tuple(topics)

    @property
    def command_names(self) -> tuple[str, ...]:
        """Topics and actions that arm and gripper are commanded by."""
        arm, gripper = self.outputs, self.gripper.outputs
        return *(output.topic for output in arm), *(output.topic for output in gripper)

    def robot_joint(self, policy_joint: str) -> str:
        """Return the robot's name of a joint of the policy."""
        return self.policy_joints.get(policy_joint, policy_joint)
