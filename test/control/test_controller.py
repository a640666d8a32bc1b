from dataclasses import replace
from threading import Thread

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.audit import CommandAudit
from sqap_vla_ros.control.chunk_executor import Offer
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.controller_config import ControllerConfig
from sqap_vla_ros.control.limits import MotionLimits
from sqap_vla_ros.control.state_machine import Event, State

SPEC = ActionSpec(('linear.x', 'linear.y', 'linear.z', 'gripper'), ('m/s',) * 3 + ('1',), 0.05, 8)
LIMITS = MotionLimits(workspace_low_m=(-1.0,) * 3, workspace_high_m=(1.0,) * 3)
CONFIG = ControllerConfig()
PERIOD_S = CONFIG.command_period_s


class Robot:
    """A controller, its clocks and an arm that does what it is told."""

    def __init__(self, config=CONFIG, limits=LIMITS, wanted=(0.1, 0, 0)):
        self.steady_ns = 5 * 10**9
        self.offset_ns = 10**18
        self.controller = Controller(SPEC, limits, config, lambda: self.steady_ns)
        self.audit = CommandAudit(limits)
        self.position = np.zeros(3)
        self.wanted = wanted
        self.camera = self.pose = self.inference = True
        self.image = None
        self.commands = []

    @property
    def now_ns(self):
        return self.steady_ns + self.offset_ns

    def chunk(self, values=None, age_s=0.1, generation=None, spec=SPEC):
        values = [*self.wanted, 1.0] if values is None else values
        return ActionChunk(
            np.tile(values, (spec.horizon, 1)),
            spec,
            self.now_ns - round(age_s * 1e9),
            self.controller.generation if generation is None else generation,
        )

    def inputs(self):
        if self.camera:
            image = self.steady_ns.to_bytes(8, 'little') if self.image is None else self.image
            self.controller.image('camera', image, self.now_ns)
        if self.pose:
            self.controller.pose(self.position, self.now_ns)

    def run(self, seconds):
        """Tick for a while; returns the commands of it."""
        commands = []
        for _ in range(round(seconds / PERIOD_S)):
            self.steady_ns += round(PERIOD_S * 1e9)
            self.inputs()
            if self.inference and len(self.commands) % 10 == 0:
                self.controller.offer(self.chunk(), self.now_ns)
            command = self.controller.tick(self.now_ns)
            self.commands.append(command)
            commands.append(command)
            if command is None:
                self.audit.reset()
            else:
                assert not self.audit.check(command, PERIOD_S)
                self.position = self.position + command.linear_m_s * PERIOD_S
        return commands

    def speed(self):
        return 0.0 if self.commands[-1] is None else np.linalg.norm(self.commands[-1].linear_m_s)

    def go(self, seconds=1.0):
        """Configure, start and move."""
        self.controller.event(Event.CONFIGURED)
        self.inputs()
        assert self.controller.start('test').accepted
        self.run(seconds)
        assert self.speed() == pytest.approx(np.linalg.norm(self.wanted))
        return self


def moving(**arguments):
    return Robot(**arguments).go()


def first_slower(robot, seconds):
    """Seconds until the speed falls."""
    before = robot.speed()
    for index in range(round(seconds / PERIOD_S)):
        robot.run(PERIOD_S)
        if robot.speed() < before - 1e-6:
            return (index + 1) * PERIOD_S
        before = robot.speed()
    raise AssertionError('never slowed down')


def test_nothing_is_published_without_consent():
    robot = Robot()
    assert robot.run(0.5) == [None] * 25
    robot.controller.event(Event.CONFIGURED)
    assert robot.run(0.5) == [None] * 25
    assert robot.controller.status(robot.now_ns).offers == {Offer.NOT_RUNNING: 5}


def test_motion_ramps_in_after_a_start_and_after_a_resume():
    robot = Robot()
    robot.controller.event(Event.CONFIGURED)
    robot.inputs()
    for begin in (robot.controller.start, robot.controller.resume):
        assert begin().accepted
        speeds = [np.linalg.norm(c.linear_m_s) for c in robot.run(1.0)]
        assert speeds[12] < 0.06
        assert speeds[-1] == pytest.approx(0.1)
        robot.controller.hold()
        robot.run(0.5)
        assert robot.speed() == 0


@pytest.mark.parametrize('name', ['camera', 'pose'])
def test_a_start_is_refused_while_an_input_is_missing(name):
    robot = Robot()
    robot.controller.event(Event.CONFIGURED)
    setattr(robot, name, False)
    robot.run(1.0)
    transition = robot.controller.start()
    assert not transition.accepted
    assert f'{name} has never arrived' in transition.reason
    assert robot.controller.state is State.READY


@pytest.mark.parametrize('name', ['camera', 'pose'])
def test_a_stalled_input_holds_in_time_and_does_not_resume_by_itself(name):
    robot = moving()
    setattr(robot, name, False)
    # The last image came with the last command.
    assert 0.45 < first_slower(robot, 1.0) <= 0.5
    assert robot.controller.state is State.HOLDING
    assert f'stale input: {name}' in robot.controller.status(robot.now_ns).reason
    robot.run(0.5)
    assert robot.speed() == 0
    setattr(robot, name, True)
    assert all(command.still for command in robot.run(1.0))
    assert robot.controller.resume().accepted
    robot.run(1.0)
    assert robot.speed() == pytest.approx(0.1)


def test_a_hold_keeps_standstill_on_the_wire():
    robot = moving()
    robot.controller.hold('operator')
    robot.run(0.5)
    commands = robot.run(2.0)
    assert all(command.still for command in commands)
    assert commands[-1].gripper == 1


def test_an_emergency_stop_acts_with_the_next_command_and_is_latched():
    robot = moving()
    assert robot.controller.estop('button').accepted
    assert first_slower(robot, 1.0) == PERIOD_S
    assert not robot.controller.resume().accepted
    assert not robot.controller.start().accepted
    robot.run(1.0)
    assert robot.speed() == 0
    assert robot.controller.reset_estop().after is State.HOLDING
    assert all(command.still for command in robot.run(1.0))


def test_a_chunk_from_before_a_hold_is_not_executed_after_the_resume():
    robot = moving()
    late = robot.chunk()
    robot.controller.hold()
    robot.run(0.5)
    robot.controller.resume()
    assert robot.controller.offer(late, robot.now_ns) is Offer.OLD_GENERATION
    robot.inference = False
    assert all(command.still for command in robot.run(0.3))


def test_a_new_start_while_running_discards_what_is_under_way():
    robot = moving()
    late = robot.chunk()
    assert robot.controller.start('another goal').accepted
    assert robot.controller.offer(late, robot.now_ns) is Offer.OLD_GENERATION
    robot.run(1.0)
    assert robot.speed() == pytest.approx(0.1)


def test_an_exhausted_queue_decelerates_at_once_and_holds_later():
    robot = moving()
    robot.inference = False
    # The last chunk was made at most 0.18 s ago and ends 0.3 s after that.
    robot.run(0.3 + 0.3)
    assert robot.speed() == 0
    assert robot.controller.state is State.RUNNING
    robot.run(0.4)
    assert robot.controller.state is State.HOLDING
    assert 'queue underrun' in robot.controller.status(robot.now_ns).reason


def test_a_late_chunk_goes_on_after_an_underrun():
    robot = moving()
    robot.inference = False
    robot.run(0.6)
    robot.inference = True
    robot.run(1.0)
    assert robot.speed() == pytest.approx(0.1)


def test_a_first_chunk_that_never_comes_holds():
    robot = Robot()
    robot.controller.event(Event.CONFIGURED)
    robot.inputs()
    robot.controller.start()
    robot.inference = False
    robot.run(4.9)
    assert robot.controller.state is State.RUNNING
    robot.run(0.2)
    assert robot.controller.state is State.HOLDING


def test_bad_chunks_in_a_row_hold_and_a_good_one_starts_the_count_again():
    robot = moving()
    bad = [np.nan, 0, 0, 0]
    for _ in range(2):
        assert robot.controller.offer(robot.chunk(bad), robot.now_ns) is Offer.NON_FINITE
    robot.controller.offer(robot.chunk(age_s=0.01), robot.now_ns)
    for _ in range(2):
        robot.controller.offer(robot.chunk(bad), robot.now_ns)
    assert robot.controller.state is State.RUNNING
    robot.controller.bad_chunk('shape (3, 4)')
    assert robot.controller.state is State.HOLDING
    assert '3 in a row, the last: shape (3, 4)' in robot.controller.status(0).reason


def test_a_clock_that_jumps_back_flushes_and_holds():
    robot = moving()
    robot.offset_ns -= 10 * 10**9
    assert first_slower(robot, 0.1) == PERIOD_S
    assert robot.controller.state is State.HOLDING
    robot.run(0.5)
    robot.controller.resume()
    robot.run(1.0)
    assert robot.speed() == pytest.approx(0.1)


def test_a_clock_that_jumps_ahead_gives_no_burst_of_actions():
    robot = moving()
    robot.offset_ns += 10 * 10**9
    robot.run(0.5)
    assert robot.controller.state is State.HOLDING
    assert robot.speed() == 0


def test_a_paused_clock_holds():
    robot = moving()
    for _ in range(40):
        robot.offset_ns -= round(PERIOD_S * 1e9)
        robot.run(PERIOD_S)
    assert robot.controller.state is State.HOLDING


@pytest.mark.parametrize('holds', [False, True])
def test_a_frozen_camera_is_reported_and_holds_where_configured(holds):
    robot = moving(config=replace(CONFIG, hold_on_frozen_camera=holds))
    robot.image = b'always the same'
    robot.run(0.4)
    assert robot.controller.status(robot.now_ns).frozen_cameras == ('camera',)
    assert (robot.controller.state is State.HOLDING) == holds


def test_the_same_image_of_an_arm_that_stands_still_or_may_not_follow_is_no_frozen_camera():
    robot = moving()
    robot.controller.hold()
    robot.run(1.0)
    robot.image = b'always the same'
    robot.run(1.0)
    assert robot.controller.status(robot.now_ns).frozen_cameras == ()
    robot = moving(config=replace(CONFIG, watch_tracking=False))
    robot.image = b'always the same'
    robot.run(1.0)
    assert robot.controller.status(robot.now_ns).frozen_cameras == ()


def test_sustained_saturation_holds_and_a_short_one_does_not():
    robot = moving()
    robot.wanted = (3.0, 0, 0)
    robot.run(2.0)
    robot.wanted = (0.05, 0, 0)
    robot.run(0.5)
    robot.wanted = (-3.0, 0, 0)
    robot.run(2.8)
    assert robot.controller.state is State.RUNNING
    robot.run(0.6)
    assert robot.controller.state is State.HOLDING
    assert 'sustained saturation: speed' in robot.controller.status(0).reason


def test_deactivation_stops_along_the_profile_and_then_goes_silent():
    robot = moving()
    robot.controller.event(Event.DEACTIVATED)
    commands = robot.run(1.0)
    assert not commands[0].still
    sent = [command for command in commands if command is not None]
    assert sent[-1].still
    assert all(not command.still for command in sent[:-1])
    assert commands[len(sent) :] == [None] * (50 - len(sent))


def test_deactivation_does_not_release_an_emergency_stop():
    robot = moving()
    robot.controller.estop()
    robot.controller.event(Event.DEACTIVATED)
    assert robot.controller.state is State.ESTOPPED


@pytest.mark.parametrize('event', [Event.HOLD, Event.START])
def test_motion_from_ready_begins_at_standstill_wherever_the_robot_was_moved(event):
    robot = Robot()
    robot.controller.event(Event.CONFIGURED)
    for _ in range(10):  # somebody else moves the arm, with 0.2 m/s
        robot.position = robot.position + np.array([0.2 * PERIOD_S, 0, 0])
        robot.run(PERIOD_S)
    assert robot.controller.event(event).accepted
    assert robot.run(PERIOD_S)[0].still


def test_a_non_finite_pose_counts_as_missing():
    robot = moving()
    robot.pose = False
    for _ in range(30):
        robot.controller.pose((np.nan, 0, 0), robot.now_ns)
        robot.run(PERIOD_S)
    assert robot.controller.state is State.HOLDING


def test_the_workspace_is_kept_to_between_poses():
    limits = replace(LIMITS, workspace_high_m=(0.2, 1.0, 1.0))
    robot = moving(limits=limits, config=replace(CONFIG, saturation_timeout_s=None))
    robot.pose = False
    for tick in range(150):
        if tick % 5 == 0:
            robot.controller.pose(robot.position, robot.now_ns)
        robot.run(PERIOD_S)
        assert robot.position[0] <= 0.2 + 1e-6
    assert robot.controller.state is State.RUNNING
    assert robot.position[0] > 0.19


def test_limits_change_at_standstill_only():
    robot = moving()
    slow = replace(LIMITS, linear_speed_m_s=0.05)
    with pytest.raises(ValueError, match='hold first'):
        robot.controller.set_limits(slow)
    robot.controller.hold()
    robot.run(0.5)
    robot.controller.set_limits(slow)
    assert robot.run(PERIOD_S)[0].gripper == 1
    robot.controller.resume()
    robot.run(1.0)
    assert robot.speed() == pytest.approx(0.05)


def test_a_workspace_needs_a_pose():
    with pytest.raises(ValueError, match='pose'):
        Robot(config=replace(CONFIG, input_timeouts_s={'camera': 0.5}))
    Robot(
        config=replace(CONFIG, input_timeouts_s={}),
        limits=replace(LIMITS, workspace_low_m=None, workspace_high_m=None),
    )


@pytest.mark.parametrize(
    'wrong',
    [
        {'command_period_s': 0},
        {'ramp_in_s': np.nan},
        {'max_bad_chunks': 0},
        {'saturation_timeout_s': -1},
        {'input_timeouts_s': {'pose': np.inf}},
    ],
)
def test_a_wrong_configuration_names_the_field(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ControllerConfig(**wrong)


def test_the_status_is_a_snapshot():
    robot = moving()
    status = robot.controller.status(robot.now_ns)
    assert status.state is State.RUNNING
    assert status.reason == 'start: test'
    assert 1 <= status.queue_depth <= 8
    assert status.delay_s == pytest.approx(0.1)
    assert status.input_ages_s == {'camera': 0.0, 'pose': 0.0}
    robot.run(0.5)
    assert status.offers[Offer.ACCEPTED] == 5


def test_listeners_may_ask_the_controller():
    robot, heard = Robot(), []
    robot.controller.listen(
        lambda transition: heard.append((transition.after, robot.controller.status(0).state))
    )
    robot.go(seconds=0.8)
    assert heard == [(State.READY, State.READY), (State.RUNNING, State.RUNNING)]


def test_inputs_events_and_ticks_may_come_from_different_threads():
    robot = moving()
    failures = []

    def hammer(action):
        try:
            for _ in range(300):
                action()
        except BaseException as error:
            failures.append(error)

    controller = robot.controller
    actions = (
        lambda: controller.image('camera', b'x', 1),
        lambda: controller.pose((0, 0, 0), 1),
        lambda: controller.offer(robot.chunk(), robot.now_ns),
        controller.hold,
        controller.resume,
        lambda: controller.status(robot.now_ns),
        lambda: controller.tick(robot.now_ns),
    )
    threads = [Thread(target=hammer, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
