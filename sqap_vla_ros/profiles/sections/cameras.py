"""Sections `cameras` and `end_effector_pose`: images, intrinsics and where poses come from."""

import math

from sqap_vla_ros.profiles import ranges
from sqap_vla_ros.profiles.document import Section
from sqap_vla_ros.profiles.names import frame_name, is_rectified, plain_name, topic_name
from sqap_vla_ros.profiles.robot_profile import Camera, COLOR_ORDERS, Intrinsics, Pose

DEFAULT_POSE_TOPIC = 'end_effector_pose'


def read_cameras(top: Section) -> tuple[Camera, ...]:
    """Read `cameras`, a section for each image that the policy takes."""
    section = top.section('cameras', required=True)
    if section is None:
        return ()
    for name in section.keys():
        wrong = plain_name(name) if name else 'it is empty'
        if wrong:
            section.problem(f'cameras: name {name!r}: {wrong}', section.line_of(name))
    parts = ((name, section.section(name)) for name in section.keys())
    return tuple(_camera(name, part) for name, part in parts if part is not None)


def read_pose_source(section: Section | None) -> tuple[str, str]:
    """
    Read `end_effector_pose`.

    Returns:
        Where the pose comes from, 'topic' or 'tf', and the topic.
    """
    source, topic = 'topic', DEFAULT_POSE_TOPIC
    if section is not None:
        source = section.text('source', choices=('topic', 'tf')) or source
        if source == 'topic':
            topic = section.text('topic', check=topic_name) or topic
        section.close()
    return source, topic


def read_pose(section: Section) -> Pose:
    """Read a pose: `position`, m, and `quaternion_xyzw`; a problem when it is not of length 1."""
    position = section.numbers(
        'position', 'length', 3, required=True, largest=ranges.MAX_DISTANCE_M
    ) or (0.0, 0.0, 0.0)
    quaternion = section.numbers('quaternion_xyzw', 'ratio', 4, required=True)
    if quaternion is not None and abs(math.hypot(*quaternion) - 1) > 1e-3:
        section.problem(
            f'{section.name("quaternion_xyzw")} has length '
            f'{math.hypot(*quaternion):.4f}, expected 1',
            section.line_of('quaternion_xyzw'),
        )
        quaternion = None
    x, y, z, w = quaternion or (0.0, 0.0, 0.0, 1.0)
    return Pose((position[0], position[1], position[2]), (x, y, z, w))


def _camera(name: str, section: Section) -> Camera:
    transport = section.text('transport', 'raw', ('raw', 'compressed'))
    intrinsics = section.section('intrinsics')
    info_topic = section.text('info_topic', '', check=topic_name) or None
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
            topic = extrinsics.text('topic', check=topic_name) or topic
        elif source == 'fixed':
            pose = read_pose(extrinsics)
        extrinsics.close()
    image_topic = section.text('topic', check=topic_name) or '?'
    camera = Camera(
        name,
        image_topic,
        transport == 'compressed',
        section.text('optical_frame', check=frame_name) or '?',
        info_topic,
        fixed,
        source,
        topic,
        pose,
        section.choice('color_order', COLOR_ORDERS),
        section.flag('rectified', is_rectified(image_topic)),
    )
    section.close()
    return camera


def _intrinsics(section: Section) -> Intrinsics:
    values = {
        name: section.number(name, 'ratio', 1.0, True, high=ranges.MAX_IMAGE_PIXELS, positive=True)
        for name in ('width', 'height', 'fx', 'fy', 'cx', 'cy')
    }
    for name in ('width', 'height'):
        if values[name] % 1:
            section.problem(
                f'{section.name(name)} is {values[name]:g}, expected a whole number of pixels',
                section.line_of(name),
            )
    for name, size in (('fx', 'width'), ('fy', 'height')):
        if name in section and values[name] < ranges.MIN_FOCAL_LENGTH * values[size]:
            section.problem(
                f'{section.name(name)} is {values[name]:g}, which is too short for {size} '
                f'{values[size]:g}: it is in pixels, not in mm or parts of the {size}',
                section.line_of(name),
            )
    for name, size in (('cx', 'width'), ('cy', 'height')):
        if size in section and not values[name] < values[size]:
            section.problem(
                f'{section.name(name)} is {values[name]:g}, expected less than {size} '
                f'{values[size]:g}: the optical axis meets the image',
                section.line_of(name),
            )
    section.close()
    return Intrinsics(
        int(values['width']),
        int(values['height']),
        *(values[name] for name in ('fx', 'fy', 'cx', 'cy')),
    )
