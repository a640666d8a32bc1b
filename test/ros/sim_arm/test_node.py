"""The simulated arm as a robot: its node in a process of its own, spoken to over DDS."""

import os
import signal
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('mujoco')

from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, Float64
from std_srvs.srv import Trigger

from sqap_vla_ros.images.conversion import image_to_rgb
from sqap_vla_ros.ros.common.qos import LATCHED
from sqap_vla_ros.simulation.arm import MAX_SPEED_M_S, SimulatedArm

from support.dds import client_node, domain, start_node, wait_until

MODULE = 'sqap_vla_ros.ros.sim_arm.node'


class Arm:
    """The node under test, and a client that hears all that it tells."""

    def __init__(self, client, process):
        self.client, self.process = client, process
        self.poses = client.listen(PoseStamped, 'end_effector_pose')
        self.joints = client.listen(JointState, 'joint_states')
        self.success = client.listen(Bool, 'task_success')
        self.images = client.listen(Image, 'camera/image_raw')
        self.infos = client.listen(CameraInfo, 'camera/camera_info')
        self.clock = client.listen(Clock, '/clock')
        client.listen(PoseStamped, 'camera/extrinsics', LATCHED)
        self.twist = client.create_publisher(TwistStamped, 'twist_command', 1)
        self.gripper = client.create_publisher(Float64, 'gripper_command', 1)
        client.wait_for('end_effector_pose')
        assert wait_until(
            lambda: self.twist.get_subscription_count() and self.gripper.get_subscription_count(),
            10,
        )

    def position_m(self):
        p = self.client.wait_for('end_effector_pose').pose.position
        return np.array([p.x, p.y, p.z])

    def now_s(self):
        """Return the simulated time of the newest pose: tests wait by it on slow machines too."""
        return seconds(self.poses[-1].header.stamp)

    def command(
        self, linear, duration_s=0.6, frame_id='base', angular=(0.0, 0.0, 0.0), stamp=None
    ):
        """Publish a twist at 50 Hz for some simulated time; a stamp of zero means now."""
        message = TwistStamped()
        message.header.frame_id = frame_id
        if stamp is not None:
            message.header.stamp = stamp
        t, r = message.twist.linear, message.twist.angular
        t.x, t.y, t.z = linear
        r.x, r.y, r.z = angular
        end_s = self.now_s() + duration_s
        self.twist.publish(message)
        while self.now_s() < end_s:
            time.sleep(0.02)
            if duration_s:
                self.twist.publish(message)

    def still_position_m(self):
        """Wait until the arm stands still, and return where."""
        begin_s = self.now_s()

        def still():
            now_s = self.now_s()
            window = [
                p.pose.position
                for p in self.poses[-200:]
                if max(begin_s, now_s - 0.5) <= seconds(p.header.stamp)
            ]
            track = np.array([[p.x, p.y, p.z] for p in window])
            return now_s > begin_s + 0.5 and np.ptp(track, axis=0).max() < 3e-4

        assert wait_until(still, 20), 'the arm does not stand still'
        return self.position_m()

    def set_parameters(self, **values):
        request = SetParametersAtomically.Request(
            parameters=[
                Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
            ]
        )
        return self.client.call(
            SetParametersAtomically, 'sim_arm_node/set_parameters_atomically', request
        ).result

    def reset(self, **values):
        if values:
            assert self.set_parameters(**values).successful
        answer = self.client.call(Trigger, 'sim_arm_node/reset', Trigger.Request())
        assert answer.success
        return answer.message


@pytest.fixture(scope='module')
def arm(tmp_path_factory):
    number = domain()
    process = start_node(
        MODULE,
        tmp_path_factory.mktemp('sim'),
        number,
        '-p',
        'publish_clock:=true',
        '-p',
        'task:=press_green',
        '-p',
        'seed:=3',
    )
    try:
        with client_node(number) as client:
            yield Arm(client, process)
    finally:
        process.stop()


@pytest.fixture
def episode(arm):
    arm.reset(task='press_green', seed=3)
    return arm


def seconds(stamp):
    return stamp.sec + stamp.nanosec / 1e9


def test_images_come_at_the_camera_rate_and_show_the_scene(arm):
    arm.client.wait_for('camera/image_raw', 8)
    stamps = [seconds(image.header.stamp) for image in arm.images[-6:]]
    np.testing.assert_allclose(np.diff(stamps), 0.05, atol=1e-6)
    image = arm.images[-1]
    assert (image.encoding, image.width, image.height) == ('rgb8', 192, 192)
    assert image.header.frame_id == 'camera_optical_frame'
    assert image_to_rgb(image).std() > 20


def test_the_camera_is_described_as_it_is(episode):
    info = episode.client.wait_for('camera/camera_info')
    extrinsics = episode.client.received['camera/extrinsics'][-1]
    assert info.header.frame_id == 'camera_optical_frame'
    assert extrinsics.header.frame_id == 'base'
    truth = SimulatedArm('press_green')
    p, q = extrinsics.pose.position, extrinsics.pose.orientation
    rotation = Rotation.from_quat([q.x, q.y, q.z, q.w])
    for point in ([0.0, 0.6, 0.1], [-0.2, 0.8, 0.05], [0.2, 0.5, 0.3]):
        optical = rotation.inv().apply(np.array(point) - [p.x, p.y, p.z])
        pixel = np.reshape(info.k, (3, 3)) @ (optical / optical[2])
        np.testing.assert_allclose(pixel[:2], truth.camera.project(point)[:2], atol=1e-6)
    np.testing.assert_allclose(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3)))


def test_the_state_is_that_of_the_seed(episode):
    truth = SimulatedArm('press_green')
    truth.reset(seed=3)
    truth.step(3.0)
    np.testing.assert_allclose(episode.still_position_m(), truth.end_effector_m, atol=2e-3)
    joints = episode.client.wait_for('joint_states')
    assert joints.name == [*(f'right_j{i}' for i in range(7)), 'r_close']
    np.testing.assert_allclose(joints.position[:7], truth.joint_positions, atol=0.02)
    assert 0.0 <= joints.position[7] <= 0.041
    assert not episode.client.wait_for('task_success').data


def test_it_moves_as_commanded_and_holds_when_commands_stop(episode):
    start = episode.still_position_m()
    episode.command((0.1, 0.0, 0.05))
    moved = episode.still_position_m() - start
    assert 0.03 < moved[0] < 0.10 and 0.01 < moved[2] < 0.06 and abs(moved[1]) < 0.01


def test_a_single_command_moves_for_a_fifth_of_a_second_only(episode):
    start = episode.still_position_m()
    episode.command((0.1, 0.0, 0.0), duration_s=0.0)
    moved = np.linalg.norm(episode.still_position_m() - start)
    assert 0.005 < moved < 0.04


def test_a_command_beyond_the_arm_s_speed_is_slowed_down(episode):
    begin = len(episode.poses)
    episode.command((0.0, 0.0, 50.0), duration_s=0.4)
    heights = [(seconds(p.header.stamp), p.pose.position.z) for p in episode.poses[begin:]]
    times, z = np.transpose(heights)
    assert np.max(np.diff(z) / np.diff(times)) < 1.5 * MAX_SPEED_M_S


@pytest.mark.parametrize(
    'linear, options',
    [
        ((np.nan, 0.0, 0.0), {}),
        ((0.0, np.inf, 0.0), {}),
        ((0.1, 0.0, 0.0), {'frame_id': 'camera'}),
        ((0.1, 0.0, 0.0), {'frame_id': ''}),
        ((0.1, 0.0, 0.0), {'angular': (0.0, 0.0, 0.5)}),
        ((0.1, 0.0, 0.0), {'angular': (np.nan, 0.0, 0.0)}),
        ((0.1, 0.0, 0.0), {'stamp': Clock().clock.__class__(nanosec=1)}),
    ],
    ids=['nan', 'inf', 'frame', 'no_frame', 'angular', 'angular_nan', 'old'],
)
def test_a_bad_command_moves_nothing(episode, linear, options):
    start = episode.still_position_m()
    episode.command(linear, duration_s=0.3, **options)
    np.testing.assert_allclose(episode.still_position_m(), start, atol=1e-3)
    assert 'twist_command rejected' in episode.process.log.read_text()


def test_a_bad_command_does_not_renew_a_good_one(episode):
    start = episode.still_position_m()
    episode.command((0.1, 0.0, 0.0), duration_s=0.0)
    episode.command((np.nan, 0.0, 0.0), duration_s=0.8)
    episode.gripper.publish(Float64(data=np.nan))
    assert np.linalg.norm(episode.still_position_m() - start) < 0.04


def test_the_gripper_closes_and_opens_without_moving_the_arm(episode):
    start = episode.still_position_m()
    closed = []
    for value in (1.0, 0.0):
        episode.gripper.publish(Float64(data=value))
        end_s = episode.now_s() + 0.8
        assert wait_until(lambda: episode.now_s() > end_s, 20)
        closed.append(episode.client.wait_for('joint_states').position[7])
    assert closed[0] > closed[1] + 0.01
    np.testing.assert_allclose(episode.still_position_m(), start, atol=3e-3)


def test_a_reset_applies_task_and_seed_and_answers_with_the_instruction(arm):
    assert arm.reset(task='open_drawer', seed=5) == 'open the drawer'
    truth = SimulatedArm('open_drawer')
    truth.reset(seed=5)
    truth.step(3.0)
    np.testing.assert_allclose(arm.still_position_m(), truth.end_effector_m, atol=2e-3)
    assert arm.reset(task='press_green', seed=3) == 'press the green button'


def test_time_runs_on_through_resets(episode):
    episode.reset()
    episode.client.wait_for('/clock', 5)
    times = np.array([seconds(message.clock) for message in episode.clock])
    assert np.all(np.diff(times) > 0)


def test_bad_parameters_are_rejected_whole(episode):
    def seed():
        request = GetParameters.Request(names=['seed'])
        return (
            episode.client.call(GetParameters, 'sim_arm_node/get_parameters', request)
            .values[0]
            .integer_value
        )

    before = seed()
    bad = [
        {'task': 'juggle'},
        {'real_time_factor': 0.0},
        {'camera_rate_hz': float('nan')},
        {'state_rate_hz': 1e9},
        {'camera_rate_hz': 20},
        {'image_size': 64},
    ]
    for values in bad:
        result = episode.set_parameters(seed=before + 1, **values)
        assert not result.successful and result.reason and '\n' not in result.reason
    assert seed() == before


def test_every_parameter_says_what_it_is(arm):
    names = [
        'task',
        'seed',
        'real_time_factor',
        'camera_rate_hz',
        'state_rate_hz',
        'image_size',
        'publish_clock',
    ]
    answer = arm.client.call(
        DescribeParameters,
        'sim_arm_node/describe_parameters',
        DescribeParameters.Request(names=names),
    )
    for descriptor in answer.descriptors:
        assert descriptor.description and descriptor.type
    ranged = [d.name for d in answer.descriptors if d.integer_range or d.floating_point_range]
    assert ranged == ['seed', 'real_time_factor', 'camera_rate_hz', 'state_rate_hz', 'image_size']


def test_simulated_time_follows_the_real_time_factor(episode):
    try:
        assert episode.set_parameters(real_time_factor=0.25).successful
        time.sleep(0.3)
        begin, first = time.monotonic(), episode.client.wait_for('/clock').clock
        time.sleep(1.5)
        last, elapsed_s = episode.client.wait_for('/clock').clock, time.monotonic() - begin
        assert (seconds(last) - seconds(first)) / elapsed_s == pytest.approx(0.25, abs=0.05)
    finally:
        assert episode.set_parameters(real_time_factor=1.0).successful


def test_a_best_effort_subscriber_gets_images_too(arm):
    messages = []
    subscription = arm.client.create_subscription(
        Image, 'camera/image_raw', messages.append, qos_profile_sensor_data
    )
    assert wait_until(lambda: len(messages) >= 3, 20)
    arm.client.destroy_subscription(subscription)


def test_a_signal_ends_it_without_a_traceback(tmp_path):
    domain_id = domain()
    numbers = {'interrupted': signal.SIGINT, 'terminated': signal.SIGTERM}
    processes = {}
    try:
        for name in numbers:
            (tmp_path / name).mkdir()
            processes[name] = start_node(
                MODULE, tmp_path / name, domain_id, '-r', f'__ns:=/{name}'
            )
        with client_node(domain_id) as client:
            for name in numbers:
                client.listen(Image, f'/{name}/camera/image_raw')
                client.wait_for(f'/{name}/camera/image_raw')
        for name, process in processes.items():
            os.kill(process.pid, numbers[name])
            assert process.wait(20) == 0
            log = process.log.read_text()
            assert 'Traceback' not in log and 'rror' not in log
    finally:
        for process in processes.values():
            process.stop()


def test_a_bad_start_is_told_on_one_line(tmp_path):
    cases = {
        'press_red': ('-p', 'task:=juggle'),
        'seed': ('-p', 'seed:=-1'),
        'camera_rate_hz': ('-p', 'camera_rate_hz:=.nan'),
        'image_size': ('-p', 'image_size:=1.5'),
        'nonexistent.yaml': ('--params-file', '/nonexistent.yaml'),
    }
    processes = {}
    try:
        for named, arguments in cases.items():
            (tmp_path / named).mkdir()
            processes[named] = start_node(MODULE, tmp_path / named, domain(), *arguments)
        for named, process in processes.items():
            assert process.wait(60) == 2
            assert 'Traceback' not in process.log.read_text()
            line = process.last_line()
            assert line.startswith('sim_arm_node: ') and named in line
    finally:
        for process in processes.values():
            process.stop()
