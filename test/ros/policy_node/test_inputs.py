"""Inputs as a profile names them: cameras, joints, poses from topics and from TF."""

from dataclasses import replace
import sys

import pytest

pytest.importorskip('rclpy')

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.robot_profile import (
    Action,
    Camera,
    Gripper,
    Joint,
    Pose,
)
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.policy_node.diagnostics import input_problems
from sqap_vla_ros.ros.policy_node.input_messages import check_age, InvalidMessage
from sqap_vla_ros.ros.policy_node.input_topics import topics_of

from support.inputs_rig import joints, jpeg, NOW_NS, pose, PROFILE, Rig, SETTINGS, spec, transform


def test_several_cameras_raw_and_compressed_become_one_observation():
    rig = Rig()
    assert rig.node.kinds['wrist/image'] is Image
    assert rig.node.kinds['side/image'] is CompressedImage
    assert rig.inputs.observation('go') is None
    rig.send_all(side_age_s=0.03)
    observation, *_ = rig.inputs.observation('go')
    assert observation.images['wrist'].shape == (4, 4, 3)
    assert abs(int(observation.images['side'][0, 0, 0]) - 200) <= 2
    assert observation.stamp_ns == NOW_NS - 30_000_000  # the older of the two


def test_images_too_far_apart_are_not_used_together_and_counted():
    rig = Rig()
    rig.send_all(side_age_s=0.2)
    assert rig.inputs.observation('go') is None
    assert rig.rejected('wrist/image, side/image') == {'wrist/image, side/image: skew'}
    assert '0.200 s apart, expected at most 0.05 s' in rig.node.warnings[-1]
    rig.send('side/image', jpeg(), 0.04)
    assert rig.inputs.observation('go') is not None


def test_joints_are_found_by_the_robots_name_whatever_their_order():
    rig = Rig()
    rig.send_all()
    state = rig.inputs.observation('go')[0].state
    assert state == pytest.approx([0.5, 1.25, 0.75])  # finger at 0.01 of 0.04 .. 0
    rig.send('joint_states', joints(('shoulder', 'finger'), (-1.0, 0.04)))
    assert rig.inputs.observation('go')[0].state == pytest.approx([0.5, -1.0, 0.0])


def test_a_noisy_topic_does_not_hide_what_is_wrong_with_another():
    rig = Rig()
    for _ in range(5):
        rig.send('wrist/image', Image(encoding='nv12', width=2, height=2))
    rig.send('joint_states', joints(('finger',), (0.0,)))
    assert [text.partition(':')[0] for text in rig.node.warnings] == [
        'wrist/image',
        'joint_states',
    ]


def test_one_unlikely_value_does_not_hide_another(monkeypatch):
    rig = Rig()
    rig.send_all()
    for lines in (['state a is 1'], ['state a is 2', 'state b is 3']):
        monkeypatch.setattr(rig.inputs._state, 'far_outside', lambda _, lines=lines: lines)
        rig.inputs.observation('go')
    assert rig.node.warnings == ['state a is 1', 'state b is 3']


@pytest.mark.parametrize(
    ('stamp_ns', 'now_ns', 'words'),
    [
        (0, NOW_NS, 'header.stamp'),
        (NOW_NS, 0, '/clock'),
        (5_000_000_000, 10**18, 'another beginning'),
        (NOW_NS + 9_000_000_000, NOW_NS, 'synchronise'),
        (NOW_NS - 3_000_000_000, NOW_NS, 'synchronise'),
    ],
)
def test_a_wrong_stamp_is_told_with_its_likely_cause(stamp_ns, now_ns, words):
    with pytest.raises(InvalidMessage, match=words) as caught:
        check_age(stamp_ns, now_ns, 1.0)
    assert caught.value.reason == 'stamp'


def test_why_an_input_is_missing_is_told_apart():
    rig = Rig()
    assert 'nobody publishes it' in rig.inputs.why_missing('joint_states')
    rig.node.publishers['/arm/joint_states'] = 1
    assert '1 publisher, and nothing arrives' in rig.inputs.why_missing('joint_states')
    rig.send('joint_states', joints(('finger',), (0.0,)))
    assert 'not valid' in rig.inputs.why_missing('joint_states')
    assert 'nobody publishes it' in rig.inputs.why_missing('wrist/image')


@pytest.mark.parametrize(
    'message, reason',
    [
        (joints(('finger',), (0.0,)), 'missing_joint'),
        (joints(('finger', 'shoulder'), (0.0,)), 'shape'),
        (joints(('finger', 'shoulder'), (0.0, float('nan'))), 'not_finite'),
        (joints(('finger', 'shoulder', 'shoulder'), (0.0, 1.0, 2.0)), 'repeated_joint'),
        (joints(('finger', 'shoulder'), (40.0, 1.0)), 'range'),
        (joints(('finger', 'shoulder'), (0.08, 1.0)), 'range'),
    ],
)
def test_joint_states_that_lack_something_are_never_filled_in(message, reason):
    rig = Rig()
    rig.send('joint_states', message)
    assert rig.rejected('joint_states') == {f'joint_states: {reason}'} and not rig.valid


def test_joints_in_degrees_and_poses_in_millimetres_are_rejected():
    limited = replace(PROFILE, joints=(Joint('shoulder', lower=-1.5, upper=1.5),))
    rig = Rig(limited)
    rig.send('joint_states', joints(positions=(0.01, 900.0, 45.0)))
    assert rig.rejected('joint_states') == {'joint_states: range'}
    assert "'shoulder' is at 45, " in rig.node.warnings[-1] and 'degrees' in rig.node.warnings[-1]
    rig.send('joint_states', joints(positions=(0.01, 900.0, 1.6)))  # a little beyond: a real arm
    rig.send('end_effector_pose', pose(450.0, 20.0, 300.0))
    assert rig.rejected('end_effector_pose') == {'end_effector_pose: range'}
    assert 'millimetres' in rig.node.warnings[-1] and rig.valid == ['joint_states']


def test_a_missing_joint_is_told_with_those_that_are_there():
    rig = Rig()
    rig.send('joint_states', joints(('left_finger', 'left_shoulder'), (0.0, 1.0)))
    assert "there are 'left_finger', 'left_shoulder'" in rig.node.warnings[-1]


def test_a_joint_name_that_the_policy_does_not_have_is_refused():
    wrong = replace(PROFILE, policy_joints={'j0': 'shoulder', 'jj': 'elbow'})
    with pytest.raises(UserError, match="policy_names has 'jj', and the policy has the joints j0"):
        topics_of(wrong, spec())
    assert topics_of(wrong, spec(state=('end_effector.x',)))  # a policy without joints


def test_joint_states_are_needed_only_where_they_measure_something():
    state = ('end_effector.x', 'gripper')
    assert 'joint_states' in topics_of(PROFILE, spec(state=state)).required
    assumed = replace(PROFILE, gripper=Gripper(assumed=0.0))
    assert 'joint_states' not in topics_of(assumed, spec(state=state)).required
    rig = Rig(assumed, spec(state=state), replace(SETTINGS, gripper_joint=''))
    rig.send('wrist/image', rgb_to_image(np.zeros((4, 4, 3), np.uint8)))
    rig.send('side/image', jpeg())
    rig.send('end_effector_pose', pose(0.5))
    assert rig.inputs.observation('go')[0].state == pytest.approx([0.5, 0.0])


def test_in_joint_space_every_commanded_joint_must_be_measured():
    profile = replace(
        PROFILE, action=Action('joint_velocity'), joints=(Joint('shoulder'), Joint('elbow'))
    )
    rig = Rig(profile)
    rig.send('joint_states', joints())
    assert rig.rejected('joint_states') == {'joint_states: missing_joint'}


@pytest.mark.parametrize(
    'quaternion, reason',
    [
        ((0, 0, 0, 0), 'quaternion'),
        ((0, 0, 0, 2), 'quaternion'),
        ((0, 0, 0, np.nan), 'not_finite'),
    ],
)
def test_a_pose_without_an_orientation_is_rejected(quaternion, reason):
    rig = Rig()
    message = pose(0.5)
    q = message.pose.orientation
    q.x, q.y, q.z, q.w = map(float, quaternion)
    rig.send('end_effector_pose', message)
    assert rig.rejected('end_effector_pose') == {f'end_effector_pose: {reason}'} and not rig.valid


def test_bad_compressed_images_are_counted_by_reason():
    rig = Rig()
    rig.send('side/image', CompressedImage(format='jpeg', data=b'garbage'))
    rig.send('side/image', CompressedImage(format='jpeg', data=b''))
    assert rig.rejected('side/image') == {'side/image: unknown_encoding', 'side/image: empty'}


def test_a_policy_that_needs_another_camera_is_refused_by_name():
    with pytest.raises(UserError, match="needs the camera 'head'; .* arm has wrist, side"):
        topics_of(PROFILE, spec(cameras=('head',)))


def test_a_policy_that_needs_the_gripper_of_an_arm_without_one_is_refused():
    with pytest.raises(UserError, match='gripper.joint'):
        Rig(settings=replace(SETTINGS, gripper_joint=''))


def test_where_nothing_measures_the_gripper_the_policy_is_told_what_the_profile_assumes():
    unmeasured = replace(SETTINGS, gripper_joint='')
    rig = Rig(replace(PROFILE, gripper=Gripper(assumed=0.25)), settings=unmeasured)
    rig.send_all()
    assert rig.inputs.observation('go')[0].state == pytest.approx([0.5, 1.25, 0.25])


def test_state_is_given_in_the_frame_that_the_policy_was_trained_in():
    turned = Action(policy_frame=Pose((0.0, 1.0, 0.0), (0.0, 0.0, 2**-0.5, 2**-0.5)))
    rig = Rig(
        replace(PROFILE, action=turned),
        spec(state=('end_effector.x', 'end_effector.y', 'end_effector.z')),
    )
    rig.send_all()
    rig.send('end_effector_pose', pose(0.2, 1.3, 0.4))
    state = rig.inputs.observation('go')[0].state
    assert state == pytest.approx([0.3, -0.2, 0.4])


def test_poses_from_tf_count_as_messages(transforms):
    camera = Camera(
        'wrist', 'wrist/image', optical_frame='eye', info_topic='wrist/info', extrinsics='tf'
    )
    rig = Rig(replace(PROFILE, cameras=(camera,), pose_source='tf'), spec(cameras=('wrist',)))
    rig.inputs._poller.poll()
    assert not rig.node.warnings and not rig.valid  # at the start there is none
    (problem,) = (p for p in input_problems(rig.inputs, False) if p.subject.startswith('tf'))
    assert "no transform from 'base_link' to 'tool'" in problem.text and problem.patience_s > 1
    transforms['tool'], transforms['eye'] = transform(0.6), transform(1.0)
    rig.inputs._poller.poll()
    assert sorted(rig.valid) == ['tf eye', 'tf tool']
    rig.inputs._poller.poll()
    assert len(rig.valid) == 2  # nothing new: a transform that stands still becomes stale
    rig.send('wrist/image', rgb_to_image(np.zeros((4, 4, 3), np.uint8)))
    rig.send('wrist/info', CameraInfo(width=4, height=4, k=[5.0, 0, 2, 0, 5, 2, 0, 0, 1]))
    rig.send('joint_states', joints())
    observation = rig.inputs.observation('go')[0]
    assert observation.end_effector_m[0] == 0.6 and 'wrist' in observation.cameras


def test_an_old_transform_is_rejected_as_an_old_message_is(transforms):
    rig = Rig(replace(PROFILE, pose_source='tf'))
    transforms['tool'] = transform(0.6, age_s=5.0)
    rig.inputs._poller.poll()
    assert rig.rejected('tf tool') == {'tf tool: stamp'} and not rig.valid
    assert 'not valid' in rig.inputs.why_missing('tf tool')


def test_tf_without_tf2_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    with pytest.raises(UserError, match='tf2-ros-py, or use source: topic'):
        Rig(replace(PROFILE, pose_source='tf'))
