"""Inputs as a profile names them: cameras, joints, poses from topics and from TF."""

from dataclasses import replace
import io
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped, TransformStamped
import numpy as np
from PIL import Image as Picture
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.profiles.robot_profile import (
    Action,
    Camera,
    Gripper,
    Intrinsics,
    Joint,
    Pose,
    RobotProfile,
)
from sqap_vla_ros.ros.common.image_conversion import rgb_to_image
from sqap_vla_ros.ros.common.messages import header
from sqap_vla_ros.ros.policy_node.diagnostics import input_values
from sqap_vla_ros.ros.policy_node.input_messages import check_age, InvalidMessage
from sqap_vla_ros.ros.policy_node.input_topics import topics_of
from sqap_vla_ros.ros.policy_node.inputs import Inputs
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

OPTICAL = 'camera_optical_frame'
NOW_NS = 100_000_000_000
SETTINGS = PolicyNodeSettings(
    base_frame='base_link',
    max_image_pixels=1_000_000,
    gripper_joint='finger',
    gripper_open_position=0.04,
    gripper_closed_position=0.0,
)
PROFILE = RobotProfile(
    'arm',
    'base_link',
    'tool',
    (Camera('wrist', 'wrist/image'), Camera('side', 'side/image', compressed=True)),
    (),
    policy_joints={'j0': 'shoulder'},
)


class StandInNode:
    """Gives callbacks instead of subscriptions; its clock stands still."""

    def __init__(self):
        self.callbacks, self.kinds, self.warnings = {}, {}, []
        self.publishers, self.types = {}, {}

    def resolve_topic_name(self, topic):
        return f'/arm/{topic}'

    def get_publishers_info_by_topic(self, topic):
        return [SimpleNamespace(topic_type=kind) for kind in self.types.get(topic, ())]

    def count_publishers(self, topic):
        return self.publishers.get(topic, 0)

    def create_subscription(self, kind, topic, callback, qos, event_callbacks=None):
        self.callbacks[topic], self.kinds[topic] = callback, kind
        return topic

    def destroy_subscription(self, topic):
        del self.callbacks[topic]

    def create_timer(self, period_s, callback, clock):
        return callback

    def destroy_timer(self, timer):
        pass

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=NOW_NS))

    def get_logger(self):
        return SimpleNamespace(
            warning=lambda text, throttle_duration_sec=0.0: self.warnings.append(text)
        )


def spec(cameras=('wrist', 'side'), state=('end_effector.x', 'joint.j0', 'gripper')):
    action = ActionSpec(('linear.x', 'linear.y', 'linear.z'), ('m/s',) * 3, 0.05, 4)
    units = {'end_effector': 'm', 'joint': 'rad', 'gripper': '1'}
    return PolicySpec(
        cameras, state, tuple(units[name.split('.')[0]] for name in state), action, 2, (1, 1)
    )


class Rig:
    """Inputs with a stand-in node, and messages for them."""

    def __init__(self, profile=PROFILE, policy=None, settings=SETTINGS):
        self.node, self.valid = StandInNode(), []
        self.inputs = Inputs(
            self.node,
            settings,
            profile,
            policy or spec(),
            lambda topic, _: self.valid.append(topic),
        )

    def send(self, topic, message, age_s=0.0, frame=None):
        if frame is None:
            seen = isinstance(message, (Image, CompressedImage, CameraInfo))
            frame = OPTICAL if seen else 'base_link'
        message.header = header(NOW_NS - round(age_s * 1e9), frame)
        self.node.callbacks[topic](message)

    def send_all(self, wrist_age_s=0.0, side_age_s=0.0):
        self.send('wrist/image', rgb_to_image(np.full((4, 4, 3), 7, np.uint8)), wrist_age_s)
        self.send('side/image', jpeg(), side_age_s)
        self.send('end_effector_pose', pose(0.5))
        self.send('joint_states', joints())

    def rejected(self, topic):
        return {key for key in self.inputs.rejected if key.startswith(topic)}


def jpeg():
    data = io.BytesIO()
    Picture.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(data, 'JPEG')
    return CompressedImage(format='jpeg', data=data.getvalue())


def pose(x, y=0.0, z=0.0):
    message = PoseStamped()
    message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
    message.pose.orientation.w = 1.0
    return message


def joints(names=('finger', 'other', 'shoulder'), positions=(0.01, 9.0, 1.25)):
    return JointState(name=list(names), position=list(positions))


def test_several_cameras_raw_and_compressed_become_one_observation():
    rig = Rig()
    assert rig.node.kinds['wrist/image'] is Image
    assert rig.node.kinds['side/image'] is CompressedImage
    assert rig.inputs.observation('go') is None
    rig.send_all(side_age_s=0.03)
    observation, _ = rig.inputs.observation('go')
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
    rig.node.types['/arm/joint_states'] = ['sensor_msgs/msg/JointState']
    assert '1 publisher, and nothing arrives' in rig.inputs.why_missing('joint_states')
    rig.node.types['/arm/joint_states'] = ['std_msgs/msg/String']
    assert (
        'std_msgs/msg/String is published there, expected sensor_msgs/msg/JointState'
        in rig.inputs.why_missing('joint_states')
    )
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


@pytest.fixture
def transforms(monkeypatch):
    """Stand in for tf2_ros: frame to transform, or LookupError-like exception."""
    module = ModuleType('tf2_ros')
    known = {}

    class TransformException(Exception):
        pass

    class Buffer:
        def lookup_transform(self, target, source, time):
            if source not in known:
                raise TransformException(f'"{source}" does not exist')
            return known[source]

    class TransformListener:
        def __init__(self, buffer, node):
            pass

        def unregister(self):
            pass

    module.Buffer, module.TransformListener = Buffer, TransformListener
    module.TransformException = TransformException
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    return known


def transform(x, age_s=0.0):
    message = TransformStamped(header=header(NOW_NS - round(age_s * 1e9), 'base_link'))
    message.transform.translation.x = x
    message.transform.rotation.w = 1.0
    return message


def test_poses_from_tf_count_as_messages(transforms):
    camera = Camera(
        'wrist', 'wrist/image', optical_frame='eye', info_topic='wrist/info', extrinsics='tf'
    )
    rig = Rig(replace(PROFILE, cameras=(camera,), pose_source='tf'), spec(cameras=('wrist',)))
    rig.inputs._poller.poll()
    assert 'robot_state_publisher' in rig.node.warnings[-1] and not rig.valid
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
