"""Which topics a policy needs on the robot of a profile."""

from dataclasses import dataclass

from sqap_vla_ros.columns import Column, TOOL
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.profiles.robot_profile import Camera, RobotProfile


@dataclass(frozen=True)
class InputTopics:
    """Topics by their purpose. A pose from TF is named 'tf FRAME'."""

    images: dict[str, str]
    """Camera name to topic, of the cameras of the policy."""
    pose: str
    joints: str
    required: tuple[str, ...]
    """Without all of them there is no observation, and none of them may become stale."""
    extrinsics: dict[str, str]
    """Camera name to the topic of the pose of its optical frame; none for a fixed camera."""
    camera_places: frozenset[str]
    """Topics that give the intrinsics or the pose of a camera."""


def topics_of(profile: RobotProfile, spec: PolicySpec) -> InputTopics:
    """
    Select the topics that a policy needs.

    Args:
        profile: Robot profile.
        spec: What the policy needs.

    Returns:
        The topics.

    Raises:
        UserError: The robot lacks a camera that the policy needs, or `policy_names` of the profile
            has joints that the policy does not have among its own.
    """
    cameras = {camera.name: camera for camera in profile.cameras}
    missing = [name for name in spec.cameras if name not in cameras]
    if missing:
        raise UserError(
            f'policy: it needs the camera {missing[0]!r}; the profile of '
            f'{profile.robot} has {", ".join(cameras) or "none"}. Give a camera of '
            'the profile that name'
        )
    _check_joint_names(profile, spec)
    pose = (
        profile.pose_topic
        if profile.pose_source == 'topic'
        else tf_topic(profile.end_effector_frame)
    )
    images = {name: cameras[name].topic for name in spec.cameras}
    required = list(images.values())
    # The workspace limits need the pose even if the policy does not.
    if not profile.joint_space or any(name.startswith(TOOL) for name in spec.state_names):
        required.append(pose)
    if profile.joint_space or any(_is_measured_joint(column, profile) for column in spec.state):
        required.append(profile.joint_states_topic)
    used = [cameras[name] for name in spec.cameras]
    extrinsics = {camera.name: _extrinsics(camera) for camera in used}
    extrinsics = {name: topic for name, topic in extrinsics.items() if topic}
    infos = {camera.info_topic for camera in used if camera.info_topic is not None}
    return InputTopics(
        images,
        pose,
        profile.joint_states_topic,
        tuple(required),
        extrinsics,
        frozenset({*infos, *extrinsics.values()}),
    )


def _is_measured_joint(column: Column, profile: RobotProfile) -> bool:
    if column.is_gripper:
        return profile.gripper.assumed is None
    return not column.name.startswith(TOOL)


def _check_joint_names(profile: RobotProfile, spec: PolicySpec) -> None:
    joints = {column.joint for column in (*spec.state, *spec.action.columns)} - {None}
    unknown = [name for name in profile.policy_joints if name not in joints]
    if joints and unknown:
        names = ', '.join(sorted(map(str, joints)))
        raise UserError(
            f'profile: joint_states.policy_names has {unknown[0]!r}, and the policy has the '
            f'joints {names}'
        )


def tf_topic(frame: str) -> str:
    """Name under which the pose of a TF frame counts as a topic."""
    return f'tf {frame}'


def _extrinsics(camera: Camera) -> str:
    if camera.extrinsics == 'topic':
        return camera.extrinsics_topic
    return tf_topic(camera.optical_frame) if camera.extrinsics == 'tf' else ''
