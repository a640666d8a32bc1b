"""Rows of the fault table: the node ends or begins, or is connected wrongly."""

import os
import signal
import time

from geometry_msgs.msg import PoseStamped, TwistStamped
from std_msgs.msg import String

from support.dds import wait_until
from support.fault_rig import PATIENCE_S
from support.processes import runs


def begin_again(rig):
    """Start the node anew; it is ready and nothing moves."""
    rig.states.clear()
    rig.audit.reset()
    rig.process = rig.restart()
    rig.wait_state('READY')
    sent = len(rig.twists)
    rig.robot.instruction.publish(String(data='lead it around'))
    time.sleep(1.0)
    assert len(rig.twists) == sent and rig.state().startswith('READY')
    rig.start()


def end(rig, number):
    """Send a signal to the node; returns its exit status and the time until its end."""
    begun_ns = time.time_ns()
    os.kill(rig.process.pid, number)
    return rig.process.wait(30), begun_ns


def test_sigterm_sends_a_final_hold_and_a_restart_does_not_move(rig, trials):
    for trial in trials(rig, 'SIGTERM, restart', 'final hold; no motion on start', 0.2, True):
        rig.start()
        status, begun_ns = end(rig, signal.SIGTERM)
        assert status == 0, rig.explain()
        trial.reacted(begun_ns, rig.stop_began(begun_ns))
        time.sleep(0.3)
        assert all(v == 0 for _, v in rig.twists[-3:])
        begin_again(rig)


def test_after_sigkill_nothing_is_sent_and_a_restart_does_not_move(rig, trials):
    for _ in trials(rig, 'SIGKILL, restart', 'no motion on start', restarts=True):
        rig.start()
        end(rig, signal.SIGKILL)
        time.sleep(0.3)
        sent = len(rig.twists)
        time.sleep(0.5)
        assert len(rig.twists) == sent
        begin_again(rig)


def test_after_sigkill_no_worker_goes_on_computing(rig, trials):
    for trial in trials(rig, 'SIGKILL, worker computes', 'worker ends', 0.5, restarts=True):
        rig.start()
        worker = rig.worker_pid()
        rig.break_policy('spin')
        time.sleep(1.0)  # it has begun, and its deadline is later
        assert runs(worker) and worker == rig.worker_pid()
        _, begun_ns = end(rig, signal.SIGKILL)
        assert wait_until(lambda worker=worker: not runs(worker), 30, 0.002)
        trial.reacted(begun_ns, time.time_ns())
        rig.repair()
        begin_again(rig)


def test_a_policy_that_is_not_loaded_in_time_is_given_up(rig, trials):
    for _ in trials(rig, 'load: hangs', 'configure fails with one line', restarts=True):
        rig.process.stop()
        rig.states.clear()
        rig.break_policy('load_hangs')
        rig.process = rig.restart('-p', 'policy_load_timeout_s:=1.0')
        told = 'cannot configure: policy circle: not loaded within 1 s'
        assert wait_until(lambda: told in rig.log(), PATIENCE_S)
        rig.wait_state('UNREADY')
        assert wait_until(lambda: rig.worker_pid() is None, 10)
        rig.healthy()
        rig.repair()
        restarted(rig)
        rig.start()


def test_a_second_publisher_of_commands_is_named(rig, trials):
    for trial in trials(rig, 'two command publishers', 'diagnostic', 3.0):
        rig.start()
        begun_ns = time.time_ns()
        other = rig.client.create_publisher(TwistStamped, 'twist_command', 1)
        rig.wait_diagnostic('twist_command: also published by /test_client')
        trial.reacted(begun_ns, time.time_ns())
        rig.client.destroy_publisher(other)


def test_an_incompatible_quality_of_service_is_named(rig, trials):
    for trial in trials(rig, 'QoS mismatch', 'diagnostic', 3.0):
        rig.start()
        begun_ns = time.time_ns()
        other = rig.client.create_publisher(PoseStamped, 'camera/extrinsics', 1)  # volatile
        rig.wait_diagnostic('camera/extrinsics: the durability of a publisher is incompatible')
        trial.reacted(begun_ns, time.time_ns())
        rig.client.destroy_publisher(other)


def restarted(rig, *arguments):
    """Start the node anew with more arguments; it is ready."""
    rig.process.stop()
    rig.states.clear()
    rig.audit.reset()
    rig.process = rig.restart(*arguments)
    rig.wait_state('READY')


def test_an_unknown_place_of_the_camera_is_named(rig, trials):
    for trial in trials(rig, 'camera extrinsics missing', 'diagnostic', 3.0, restarts=True):
        restarted(rig, '-r', 'camera/extrinsics:=nobody/publishes/this')
        begun_ns = time.time_ns()
        rig.wait_diagnostic('no valid message on camera/extrinsics yet: nobody publishes it')
        trial.reacted(begun_ns, time.time_ns())
        rig.start()
        restarted(rig)
        rig.start()


def test_without_a_pose_nothing_is_commanded(rig, trials):
    for trial in trials(rig, 'pose missing from the start', 'no motion; diagnostic', 3.0, True):
        restarted(rig, '-r', 'end_effector_pose:=nobody/publishes/this')
        sent = len(rig.twists)  # the node before was moving when it was told to end
        begun_ns = time.time_ns()
        rig.wait_diagnostic('no valid message on end_effector_pose yet: nobody publishes it')
        trial.reacted(begun_ns, time.time_ns())
        rig.robot.instruction.publish(String(data='lead it around'))
        result = rig.result(rig.goal())
        assert result.reason == 'refused' and 'never arrived' in result.message, result
        assert all(v == 0 for _, v in rig.twists[sent:])
        restarted(rig)
        rig.start()
