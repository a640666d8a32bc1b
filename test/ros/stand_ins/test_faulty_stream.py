"""What the fault injector makes of a stream."""

import math

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped
import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from sqap_vla_ros.images.conversion import image_to_rgb
from sqap_vla_ros.images.encodings import ImageError
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.stand_ins.corruptions import CORRUPTIONS
from sqap_vla_ros.ros.stand_ins.faulty_stream import FaultyStream


def image(grey, second=0):
    message = rgb_to_image(np.full((4, 6, 3), grey, np.uint8))
    message.header.stamp.sec = second
    return message


def stream(kind=Image, fault='none'):
    made = FaultyStream(CORRUPTIONS[kind])
    made.set_fault(fault)
    return made


def test_without_a_fault_messages_pass_as_they_are():
    message = image(1)
    assert stream().feed(message, 0.0) == [message]


def test_dropped_messages_never_come():
    dropping = stream(fault='drop')
    assert dropping.feed(image(1), 0.0) == [] and dropping.due(100.0) == []


def test_late_messages_come_after_the_delay_and_in_order():
    late = stream(fault='delay')
    late.delay_s = 2.0
    messages = [image(grey) for grey in (1, 2)]
    assert late.feed(messages[0], 0.0) == [] and late.feed(messages[1], 1.0) == []
    assert late.due(1.9) == []
    assert late.due(2.0) == messages[:1] and late.due(3.5) == messages[1:]
    assert late.due(99.0) == []


def test_a_frozen_camera_repeats_its_image_with_new_stamps():
    frozen = stream(fault='freeze')
    frozen.feed(image(1, 5), 0.0)
    [got] = frozen.feed(image(2, 6), 0.1)
    assert bytes(got.data) == bytes(image(1).data) and got.header.stamp.sec == 6


def test_reordered_messages_come_in_pairs_the_wrong_way_round():
    reordering = stream(fault='reorder')
    messages = [image(grey) for grey in range(4)]
    got = [m for message in messages for m in reordering.feed(message, 0.0)]
    assert got == [messages[1], messages[0], messages[3], messages[2]]


def test_a_flood_repeats_each_message():
    flooding = stream(String, 'flood')
    flooding.copies = 7
    assert len(flooding.feed(String(data='open'), 0.0)) == 7


def test_old_stamps_leave_the_original_alone():
    message = image(1, 100)
    [got] = stream(fault='old_stamp').feed(message, 0.0)
    assert got.header.stamp.sec == 90 and message.header.stamp.sec == 100


def test_another_fault_forgets_what_was_held_back():
    late = stream(fault='delay')
    late.feed(image(1), 0.0)
    late.set_fault('none')
    assert late.due(100.0) == []
    with pytest.raises(KeyError):
        late.set_fault('explode')


@pytest.mark.parametrize('fault', CORRUPTIONS[Image])
def test_corrupt_images_are_refused_and_the_original_stays_whole(fault):
    message = image(9)
    [got] = stream(Image, fault).feed(message, 0.0)
    with pytest.raises(ImageError):
        image_to_rgb(got)
    assert image_to_rgb(message).shape == (4, 6, 3)


def test_corrupt_poses_and_joints():
    pose = PoseStamped()
    pose.header.frame_id = 'base'
    [nan] = stream(PoseStamped, 'nan').feed(pose, 0.0)
    [moved] = stream(PoseStamped, 'wrong_frame').feed(pose, 0.0)
    assert math.isnan(nan.pose.position.x) and pose.pose.position.x == 0
    [unturned] = stream(PoseStamped, 'zero_quaternion').feed(pose, 0.0)
    assert unturned.pose.orientation.w == 0 and pose.pose.orientation.w == 1
    assert moved.header.frame_id != 'base' and pose.header.frame_id == 'base'
    joints = JointState(name=['a', 'b'], position=[1.0, 2.0])
    [missing] = stream(JointState, 'missing').feed(joints, 0.0)
    [reversed_] = stream(JointState, 'reversed').feed(joints, 0.0)
    assert list(missing.name) == ['a']
    assert dict(zip(reversed_.name, reversed_.position)) == {'a': 1.0, 'b': 2.0}
    assert list(joints.name) == ['a', 'b']
