"""Topics that a profile uses for two things at once."""

from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.robot_profile import RobotProfile


def check_topics(top: Section, profile: RobotProfile) -> None:
    """
    Report topics that would carry two kinds of messages, or the node's own commands as inputs.

    Cameras may share the topic of their images, when they read it alike, and those of CameraInfo
    and pose, when they have the same optical frame.
    """
    used: dict[str, str] = {}
    for topic, purpose, key in _uses(profile):
        first = used.setdefault(topic, purpose)
        if first != purpose:
            top.problem(
                f'{topic!r} is the topic of {first} and of {purpose}; each needs its own',
                top.line_of(key),
            )


def _uses(profile: RobotProfile) -> list[tuple[str, str, str]]:
    """List topic, purpose and top-level key of everything that the node may use."""
    uses = []
    for camera in profile.cameras:
        frame = camera.optical_frame
        transport = 'compressed' if camera.compressed else 'raw'
        kind = f'{transport} images'
        kind += f' in {camera.color_order}' if camera.color_order else ''
        kind += ', rectified' if camera.rectified else ''
        uses.append((camera.topic, kind, 'cameras'))
        if camera.info_topic is not None:
            uses.append((camera.info_topic, f'CameraInfo of {frame}', 'cameras'))
        if camera.extrinsics == 'topic':
            uses.append((camera.extrinsics_topic, f'the pose of {frame}', 'cameras'))
    if profile.pose_source == 'topic':
        uses.append((profile.pose_topic, 'the pose of the end effector', 'end_effector_pose'))
    uses.append((profile.joint_states_topic, 'joint states', 'joint_states'))
    uses += [(output.topic, f'the output {output.kind}', 'outputs') for output in profile.outputs]
    uses += [
        (output.topic, f'the output {output.kind} of the gripper', 'gripper')
        for output in profile.gripper.outputs
        if output.kind == 'float64'
    ]
    return [use for use in uses if use[0] != '?']
