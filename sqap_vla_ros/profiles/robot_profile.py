"""What a robot profile says, as values; `reading.py` makes them from YAML. SI units."""

from dataclasses import dataclass, field
import math

MAX_HORIZON_S = 0.2
"""Longest trajectory that is sent: how long an arm goes on when the node is killed."""
TWIST, JOINT_VELOCITY, JOINT_POSITION = 'twist', 'joint_velocity', 'joint_position'
SPACES = (TWIST, JOINT_VELOCITY, JOINT_POSITION)
# Lists, because `register_output` of ros/policy_node/outputs/registry.py appends to them.
TWIST_OUTPUTS = ['twist_stamped']
JOINT_OUTPUTS = ['joint_trajectory', 'float64_multi_array', 'joint_state']
GRIPPER_OUTPUTS = ['float64', 'gripper_command', 'parallel_gripper_command']


@dataclass(frozen=True)
class Pose:
    """Place of a frame in another one."""

    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quaternion_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera, pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Camera:
    """One image that the policy gets, and where the camera is."""

    name: str
    """As the policy calls it."""
    topic: str
    compressed: bool = False
    optical_frame: str = 'camera_optical_frame'
    info_topic: str | None = None
    """sensor_msgs/CameraInfo; None: `intrinsics`, or unknown."""
    intrinsics: Intrinsics | None = None
    extrinsics: str = 'none'
    """Where the pose of the optical frame comes from: 'topic', 'tf', 'fixed' or 'none'."""
    extrinsics_topic: str = 'camera/extrinsics'
    pose: Pose = Pose()
    """In the base frame; of `extrinsics: fixed`."""


@dataclass(frozen=True)
class Joint:
    """Limits of one joint; rad, or m for a prismatic one. None: the document gives no figure."""

    name: str
    kind: str = 'revolute'
    """'revolute', 'continuous' or 'prismatic'."""
    lower: float = -math.inf
    upper: float = math.inf
    velocity: float | None = None
    acceleration: float | None = None
    jerk: float | None = None
    line: int = 0
    """Of the profile, for messages."""


@dataclass(frozen=True)
class GripperOutput:
    """How a gripper is told; `opened` and `closed` are what is sent for 0 and 1."""

    kind: str = 'float64'
    topic: str = 'gripper_command'
    """Topic, or name of the action."""
    opened: float = 0.0
    closed: float = 1.0
    max_effort: float = 0.0
    """N or Nm; 0: the controller's own. Not of float64."""
    joint: str = ''
    """Of parallel_gripper_command."""


@dataclass(frozen=True)
class Gripper:
    """What tells how far the gripper is closed, and how it is commanded."""

    joint: str = ''
    """Name in the joint states; empty: not measured."""
    opened: float = 0.0
    """Position of that joint, m or rad."""
    closed: float = 1.0
    outputs: tuple[GripperOutput, ...] = ()
    assumed: float | None = None
    """What a policy is told where no joint measures it: 0 (open) .. 1 (closed); None: nothing."""


@dataclass(frozen=True)
class Output:
    """One topic on which the arm is commanded."""

    kind: str
    topic: str
    frame: str = ''
    """Of twist_stamped; empty: the base frame."""
    joints: tuple[str, ...] = ()
    """Order of the joints; empty: that of the profile."""
    horizon_s: float = 0.1
    """Of joint_trajectory: time until the arm stands when no further message comes."""
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
    """Name of an action column to the name that it has on this robot, for example 'linear.x' to
    'joint_velocity.slide_x' on a gantry."""
    policy_frame: Pose = Pose()
    """Of the frame in which the policy was trained, in the base frame."""


@dataclass(frozen=True)
class RobotProfile:
    """Everything that is particular to a robot."""

    robot: str
    base_frame: str
    end_effector_frame: str
    cameras: tuple[Camera, ...]
    outputs: tuple[Output, ...]
    simulated: bool = False
    run_on_hardware: bool = False
    """Whether this profile has moved the real robot."""
    max_camera_skew_s: float = 0.05
    """Images whose stamps differ by more are not used together."""
    pose_source: str = 'topic'
    """'topic' or 'tf'."""
    pose_topic: str = 'end_effector_pose'
    joint_states_topic: str = 'joint_states'
    policy_joints: dict[str, str] = field(default_factory=dict)
    """Joint name of the policy to joint name of the robot; the others are the same."""
    joints: tuple[Joint, ...] = ()
    gripper: Gripper = Gripper()
    action: Action = Action()
    settings: dict[str, object] = field(default_factory=dict)
    """Values for parameters of the policy node, by parameter name."""

    @property
    def needs_acknowledgement(self) -> bool:
        """Whether somebody has to say that this profile is untested, before it commands."""
        return not (self.simulated or self.run_on_hardware)

    @property
    def joint_space(self) -> bool:
        """Whether actions are joint velocities or positions."""
        return self.action.space != TWIST

    def robot_joint(self, policy_joint: str) -> str:
        """Name on the robot of a joint that the policy names."""
        return self.policy_joints.get(policy_joint, policy_joint)
