"""Where the cameras of an observation are, and what their images show."""

from dataclasses import replace
import time

import pytest

pytest.importorskip('rclpy')

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from sqap_vla_ros.profiles.robot_profile import (
    Camera,
    Intrinsics,
    Pose,
)
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.messages import header
from sqap_vla_ros.ros.policy_node.diagnostics import input_values

from support.inputs_rig import (
    joints,
    NOW_NS,
    OPTICAL,
    pose,
    PROFILE,
    Rig,
    spec,
    StandInNode,
    transform,
)

FIXED = Camera(
    'wrist',
    'wrist/image',
    info_topic='wrist/info',
    extrinsics='fixed',
    pose=Pose((0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0)),
)
"""One metre above the origin, looking down."""


def camera_rig(camera=FIXED, size=4, **info):
    """Send all that an observation needs, with an image of size x size pixels."""
    rig = Rig(replace(PROFILE, cameras=(camera,)), spec(cameras=('wrist',)))
    rig.send('wrist/image', rgb_to_image(np.zeros((size, size, 3), np.uint8)))
    rig.send('end_effector_pose', pose(0.0))
    rig.send('joint_states', joints())
    if info:
        rig.send('wrist/info', CameraInfo(**info))
    return rig


def test_a_fixed_camera_needs_no_messages():
    camera = Camera(
        'wrist',
        'wrist/image',
        intrinsics=Intrinsics(4, 4, 5.0, 5.0, 2.0, 2.0),
        extrinsics='fixed',
        pose=Pose((0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0)),
    )
    rig = Rig(replace(PROFILE, cameras=(camera,)), spec(cameras=('wrist',)))
    rig.send('wrist/image', rgb_to_image(np.zeros((4, 4, 3), np.uint8)))
    rig.send('end_effector_pose', pose(0.0))
    rig.send('joint_states', joints())
    seen = rig.inputs.observation('go')[0].cameras['wrist']
    assert seen.project(np.zeros(3)) == pytest.approx((2.0, 2.0, 1.0))


def test_the_pose_of_a_camera_that_is_not_broadcast_any_more_is_not_used(transforms, monkeypatch):
    camera = replace(FIXED, optical_frame='eye', extrinsics='tf')
    rig = Rig(replace(PROFILE, cameras=(camera,)), spec(cameras=('wrist',)))
    rig.send('wrist/info', CameraInfo(width=4, height=4, k=[5.0, 0, 2, 0, 5, 2, 0, 0, 1]))
    rig.send('joint_states', joints())
    rig.send('wrist/image', rgb_to_image(np.zeros((4, 4, 3), np.uint8)))
    rig.send('end_effector_pose', pose(0.0, z=3.0))
    later_s = time.monotonic() + 2.0
    for stamp_ns, seen in ((NOW_NS, False), (0, True)):
        transforms['eye'] = transform(0.1)
        transforms['eye'].header = header(stamp_ns, 'base_link')
        rig.inputs._poller.poll()
        assert 'wrist' in rig.inputs.observation('go')[0].cameras
        with monkeypatch.context() as patch:
            patch.setattr(time, 'monotonic', lambda: later_s)
            assert ('wrist' in rig.inputs.observation('go')[0].cameras) is seen
            assert any('/tf_static' in line for line in rig.inputs.models.problems()) is not seen


def test_the_camera_of_an_observation_is_that_of_the_binned_image():
    rig = camera_rig(
        width=8, height=8, k=[10.0, 0, 4, 0, 10, 4, 0, 0, 1], binning_x=2, binning_y=2
    )
    camera = rig.inputs.observation('go')[0].cameras['wrist']
    assert (camera.width, camera.height) == (4, 4)
    assert camera.project(np.zeros(3)) == pytest.approx((2.0, 2.0, 1.0))
    assert not rig.node.warnings and not rig.inputs.models.problems()


def test_a_camera_that_has_the_end_effector_behind_it_is_reported():
    fitting = {'width': 4, 'height': 4, 'k': [5.0, 0, 2, 0, 5, 2, 0, 0, 1]}
    rig = camera_rig(**fitting)
    assert rig.inputs.observation('go')[0].cameras and not rig.node.warnings
    rig = camera_rig(replace(FIXED, pose=Pose((0.0, 0.0, 1.0))), **fitting)
    rig.inputs.observation('go')
    (line,) = rig.node.warnings
    assert "camera 'wrist': its pose has the end effector behind it" in line
    assert rig.inputs.models.problems() == [line]


def test_a_topic_remapped_to_undistorted_images_is_told(monkeypatch):
    monkeypatch.setattr(StandInNode, 'resolve_topic_name', lambda self, topic: '/eye/image_rect')
    assert 'rectified: true' in Rig().node.warnings[0]
    sure = replace(PROFILE, cameras=tuple(replace(c, rectified=True) for c in PROFILE.cameras))
    assert not Rig(sure).node.warnings


def test_an_image_of_another_size_has_no_camera_and_one_line_says_why():
    rig = camera_rig(width=8, height=8, k=[10.0, 0, 4, 0, 10, 4, 0, 0, 1])
    for _ in range(3):
        assert rig.inputs.observation('go')[0].cameras == {}
    (line,) = rig.node.warnings
    assert line.startswith('wrist/info: ') and '8 x 8' in line and '4 x 4' in line
    assert rig.inputs.models.problems() == [line]
    _, problems = input_values(rig.inputs, protects=True)
    assert any(line in problem and 'not protected' in problem for problem in problems)
    assert not any(line in problem for problem in input_values(rig.inputs, protects=False)[1])
    rig.send('wrist/info', CameraInfo(width=4, height=4, k=[5.0, 0, 2, 0, 5, 2, 0, 0, 1]))
    assert 'wrist' in rig.inputs.observation('go')[0].cameras
    assert not rig.inputs.models.problems()


def test_intrinsics_of_the_profile_must_be_those_of_the_image():
    camera = replace(FIXED, info_topic=None, intrinsics=Intrinsics(8, 6, 5.0, 5.0, 4.0, 3.0))
    rig = camera_rig(camera)
    assert rig.inputs.observation('go')[0].cameras == {}
    assert rig.node.warnings[0].startswith("intrinsics of camera 'wrist': ")
    assert '8 x 6' in rig.node.warnings[0] and '4 x 4' in rig.node.warnings[0]


def test_a_frame_that_is_not_the_profiles_is_warned_about_once_and_used():
    rig = camera_rig()
    for frame in ('depth_frame', 'depth_frame', OPTICAL, 'third'):
        rig.send('wrist/image', rgb_to_image(np.zeros((4, 4, 3), np.uint8)), frame=frame)
    (line,) = rig.node.warnings
    assert line.startswith('wrist/image: ')
    assert "'depth_frame', expected 'camera_optical_frame'" in line
    assert any("'third'" in problem for problem in input_values(rig.inputs, protects=False)[1])
    rig.send('wrist/info', CameraInfo(), frame='')
    assert "wrist/info: frame_id is '', expected 'camera_optical_frame'" in rig.node.warnings[1]
    assert rig.inputs.observation('go') is not None


def test_images_without_a_colour_order_need_the_profiles():
    image = Image(height=4, width=4, encoding='8UC3', step=12, data=bytes([1, 2, 3] * 16))
    rig = camera_rig()
    rig.send('wrist/image', image)
    assert rig.rejected('wrist/image') == {'wrist/image: no_colour_order'}
    assert rig.node.warnings[-1].startswith('wrist/image: image: encoding 8UC3 ')
    rig = camera_rig(replace(FIXED, color_order='bgr'))
    rig.send('wrist/image', image)
    seen = rig.inputs.observation('go')[0].images['wrist']
    assert seen[0, 0].tolist() == [3, 2, 1] and not rig.rejected('wrist/image')


def test_a_depth_image_on_the_topic_of_a_camera_is_rejected_by_name():
    rig = camera_rig()
    rig.send('wrist/image', Image(height=4, width=4, encoding='16UC1', step=8, data=bytes(32)))
    assert rig.rejected('wrist/image') == {'wrist/image: no_picture'}
    (problem,) = input_values(rig.inputs, protects=False)[1]
    assert problem == rig.node.warnings[-1] and 'wrist/image: image: encoding 16UC1' in problem
    rig.send('wrist/image', rgb_to_image(np.zeros((4, 4, 3), np.uint8)))
    assert not input_values(rig.inputs, protects=False)[1]
