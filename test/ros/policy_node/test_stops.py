"""Stops and what must not end a node: real processes, asked over DDS at the worst moments."""

import io
import os
import signal
import struct
import time
import zlib

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.srv import ChangeState
from PIL import Image as Picture
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from support.dds import wait_until
from support.policy_node_rig import PATIENCE_S
from support.robot import speed
from support.stand_in_node import stand_in_node

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4
COMPRESSED = 'camera/image_raw/compressed'
DAMAGED = b'\0\1\0\0\xff\xff\xff\x7f'


@pytest.fixture(scope='module')
def rig(tmp_path_factory):
    directory = tmp_path_factory.mktemp('stops')
    with stand_in_node(directory, '-p', 'profile:=sim_sawyer_compressed') as rig:
        yield rig


@pytest.fixture
def unconfigured(rig):
    """Bring the module's node back to its beginning, whatever the test before left."""
    rig.fault_file.write_text('', 'utf-8')
    for transition in (DEACTIVATE, CLEANUP):
        rig.transition(transition)
    rig.service('reset_estop')
    rig.wait_state('UNREADY')
    return rig


def alive(rig):
    log = rig.process.log.read_text()
    assert rig.process.status is None and 'Traceback' not in log, log[-3000:]


def test_an_emergency_stop_is_kept_from_before_configure_to_after_cleanup(unconfigured):
    rig = unconfigured
    assert rig.service('estop').success
    rig.wait_state('ESTOPPED')
    assert rig.transition(CONFIGURE) and rig.state().startswith('ESTOPPED')
    assert rig.transition(ACTIVATE)
    assert not rig.goal().accepted and not rig.service('resume').success
    for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
        assert rig.transition(transition)
        assert rig.state().startswith('ESTOPPED')
    assert rig.service('reset_estop').success
    rig.wait_state('HOLDING')
    assert not rig.service('reset_estop').success and not rig.moving()


def test_stops_are_answered_and_kept_while_the_policy_is_loaded(unconfigured):
    rig = unconfigured
    rig.fault_file.write_text('slow_load', 'utf-8')
    client = rig.client.create_client(ChangeState, 'policy_node/change_state')
    assert client.wait_for_service(PATIENCE_S)
    request = ChangeState.Request()
    request.transition.id = CONFIGURE
    configured = client.call_async(request)
    assert not wait_until(configured.done, 1.0)
    assert rig.service('hold').success and rig.service('estop').success
    rig.wait_state('ESTOPPED')
    assert not configured.done()
    rig.fault_file.write_text('', 'utf-8')
    assert wait_until(configured.done, PATIENCE_S) and configured.result().success
    rig.wait_state('ESTOPPED')  # after READY, which may still be on its way


def test_requests_of_the_lifecycle_that_are_not_possible_now_are_refused(unconfigured):
    rig = unconfigured
    assert not rig.transition(ACTIVATE) and not rig.transition(99)
    assert rig.transition(CONFIGURE) and not rig.transition(CONFIGURE)
    assert rig.transition(ACTIVATE)
    for transition in (ACTIVATE, CONFIGURE, CLEANUP):
        assert not rig.transition(transition)
    assert rig.transition(DEACTIVATE) and not rig.transition(DEACTIVATE)
    alive(rig)


def test_damaged_messages_are_rejected_and_counted_on_every_topic(unconfigured):
    rig = unconfigured
    assert rig.transition(CONFIGURE)
    topics = {
        'instruction': String,
        'task_success': Bool,
        'joint_states': JointState,
        'end_effector_pose': PoseStamped,
        COMPRESSED: CompressedImage,
    }
    publishers = [rig.client.create_publisher(kind, topic, 1) for topic, kind in topics.items()]
    assert wait_until(lambda: all(p.get_subscription_count() for p in publishers), PATIENCE_S)

    def counted():
        for publisher in publishers:
            publisher.publish(DAMAGED)
        log = rig.process.log.read_text()
        names = ('joint_states', 'end_effector_pose', COMPRESSED)
        return 'instruction cannot be read' in log and all(
            rig.counted(f'{name}: unreadable') for name in names
        )

    assert wait_until(counted, PATIENCE_S, 0.3), rig.explain()
    for publisher in publishers:
        rig.client.destroy_publisher(publisher)
    alive(rig)


def test_a_joint_state_of_a_hundred_thousand_names_is_not_read(unconfigured):
    rig = unconfigured
    assert rig.transition(CONFIGURE)
    rig.robot.silent.add('joints')
    message = JointState(name=['j'] * 100_000, position=[0.0] * 100_000)

    def counted():
        rig.robot.joints.publish(rig.robot.header(message))
        return rig.counted('joint_states: too_large')

    assert wait_until(counted, PATIENCE_S, 0.5), rig.explain()
    rig.robot.silent.clear()
    alive(rig)


def png(after=b''):
    """Make a PNG of 8 x 8 pixels with a chunk behind its pixels."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)

    header = struct.pack('>IIBBBBB', 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b'\0' + bytes(24)) * 8)
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        (chunk(b'IHDR', header), chunk(b'IDAT', pixels), after, chunk(b'IEND', b''))
    )


def jpeg_of_scans(count, size=4000):
    """Make a progressive JPEG that repeats its last scan."""
    file = io.BytesIO()
    Picture.new('RGB', (size, size), (90, 100, 110)).save(file, 'JPEG', progressive=True)
    data = file.getvalue()
    return data[:-2] + data[data.rfind(b'\xff\xda') : -2] * count + data[-2:]


EMPTY_PROFILE = struct.pack('>I', 0) + b'iCCP' + struct.pack('>I', zlib.crc32(b'iCCP'))
FILES = {
    'png_iccp': (lambda: png(EMPTY_PROFILE), 'undecodable'),
    'jpeg_scans': (lambda: jpeg_of_scans(1000), 'too_large'),
    'garbage': (lambda: b'\xff\xd8' + bytes(range(256)) * 10, 'u'),
}


@pytest.mark.parametrize('case', FILES)
def test_a_picture_that_no_decoder_likes_is_rejected_and_delays_no_stop(unconfigured, case):
    rig = unconfigured
    assert rig.transition(CONFIGURE)
    publisher = rig.client.create_publisher(CompressedImage, COMPRESSED, 1)
    estop = rig.client.create_client(Trigger, 'policy_node/estop')
    assert wait_until(publisher.get_subscription_count, PATIENCE_S)
    assert estop.wait_for_service(PATIENCE_S)
    make, reason = FILES[case]
    message = CompressedImage(format=case.partition('_')[0], data=make())

    def send():
        message.header.stamp = rig.client.get_clock().now().to_msg()
        publisher.publish(message)

    def counted():  # a single message may be lost
        send()
        return rig.counted(f'{COMPRESSED}: {reason}')

    for _ in range(3):
        send()
    begun_s = time.monotonic()
    answer = estop.call_async(Trigger.Request())
    assert wait_until(answer.done, PATIENCE_S, 0.001) and answer.result().success
    assert time.monotonic() - begun_s < 2.0
    assert wait_until(counted, PATIENCE_S, 0.5), rig.explain()
    rig.client.destroy_publisher(publisher)
    rig.client.destroy_client(estop)
    alive(rig)


def test_a_clock_before_the_beginning_of_time_is_ignored(tmp_path):
    with stand_in_node(tmp_path, '-p', 'use_sim_time:=true') as rig:
        publisher = rig.client.create_publisher(Clock, '/clock', 1)
        assert wait_until(publisher.get_subscription_count, PATIENCE_S)
        message = Clock()
        message.clock.sec = -5
        assert rig.transition(CONFIGURE)

        def counted():
            publisher.publish(message)
            return rig.counted('/clock')

        assert wait_until(counted, PATIENCE_S, 0.3), rig.explain()
        alive(rig)


def test_limits_that_contradict_each_other_are_told_in_one_line(tmp_path):
    with stand_in_node(tmp_path, '-p', 'workspace_high_m:=[0.35, 0.95, -0.40]') as rig:
        said = 'workspace_high_m'
        if not wait_until(lambda: said in rig.process.log.read_text(), 30):
            assert not rig.transition(CONFIGURE)
        log = rig.process.log.read_text()
        assert log.count(said) == 1 and 'Traceback' not in log


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_obeyed_while_the_policy_is_loaded(tmp_path, number):
    with stand_in_node(tmp_path, '-p', 'autostart:=true', fault='slow_load') as rig:
        assert wait_until(lambda: rig.state().startswith('UNREADY'), PATIENCE_S)
        time.sleep(1.0)
        begun_s = time.monotonic()
        os.kill(rig.process.pid, number)
        assert rig.process.wait(30) == 0 and time.monotonic() - begun_s < 10, rig.explain()
        assert 'Traceback' not in rig.process.log.read_text()


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM])
def test_the_last_command_before_the_end_is_a_hold_even_if_signals_repeat(tmp_path, number):
    with stand_in_node(tmp_path, '-p', 'autostart:=true') as rig:
        rig.wait_state('READY')
        rig.robot.instruction.publish(String(data='lead it around'))
        assert wait_until(lambda: rig.service('resume').success, PATIENCE_S, 0.1), rig.explain()
        rig.wait_moving()
        for _ in range(3):
            os.kill(rig.process.pid, number)
            time.sleep(0.02)
        assert rig.process.wait(30) == 0, rig.explain()
        time.sleep(0.5)
        assert all(speed(t) == 0 for t in rig.robot.twists[-3:])
        assert 'Traceback' not in rig.process.log.read_text()
