"""What people asked for, whatever policy is loaded and whichever thread asks."""

from threading import Event as Signal
from threading import Thread

import pytest

pytest.importorskip('rclpy')

from types import SimpleNamespace

from sqap_vla_ros.control.state_machine import Event, State, StateMachine
from sqap_vla_ros.ros.policy_node.motion_control import MotionControl


class Controller:
    """The state machine of a controller, without motion."""

    def __init__(self):
        self.machine = StateMachine()
        self.machine.handle(Event.CONFIGURED)

    @property
    def state(self):
        return self.machine.state

    def status(self, _):
        return SimpleNamespace(state=self.machine.state, reason=self.machine.reason)

    def event(self, event, reason=''):
        return self.machine.handle(event, reason)

    def start(self, reason):
        return self.event(Event.START, reason)

    def resume(self, reason):
        return self.event(Event.RESUME, reason)

    def estop(self, reason):
        return self.event(Event.ESTOP, reason)

    def reset_estop(self, reason):
        return self.event(Event.RESET_ESTOP, reason)


def possible():
    return None


def active():
    control, controller = MotionControl(), Controller()
    control.attach(controller)
    assert control.activate()
    return control, controller


def test_an_emergency_stop_is_taken_without_a_policy_and_outlasts_every_policy():
    control = MotionControl()
    assert control.estop('service').accepted
    assert control.state()[0] is State.ESTOPPED and 'not configured' in control.state()[1]
    for _ in range(2):
        controller = Controller()
        control.attach(controller)
        assert control.activate() and control.state()[0] is State.ESTOPPED
        assert 'reset_estop' in control.start('goal')
        assert not control.resume('service', possible).accepted
        control.deactivate('test')
        control.detach()
        assert control.state()[0] is State.ESTOPPED


def test_a_reset_leads_to_no_motion_with_and_without_a_policy():
    control, controller = active()
    control.estop('service')
    assert control.reset_estop('service').accepted and controller.state is State.HOLDING
    control.estop('service')
    control.detach()
    assert control.reset_estop('service').accepted and control.state()[0] is State.UNREADY
    assert not control.reset_estop('service').accepted
    control.attach(Controller())
    assert control.state()[0] is State.READY


def test_a_hold_is_taken_without_a_policy_and_keeps_instructions_from_starting_motion():
    control = MotionControl()
    assert control.hold('service').accepted and control.state()[0] is State.UNREADY
    control.attach(Controller())
    control.activate()
    assert 'motion was stopped' in control.start('instruction topic', unless_held=True)
    assert control.start('goal') is None
    assert control.start('instruction topic', unless_held=True) is None


@pytest.mark.parametrize('stop', ['hold', 'estop'])
def test_what_was_asked_for_before_a_stop_never_starts_after_it(stop):
    control, controller = active()
    asked = control.stops
    getattr(control, stop)('service')
    control.reset_estop('service')
    assert control.start('goal', asked) is not None and controller.state is State.HOLDING
    assert control.start('goal', control.stops) is None


def test_a_resume_that_is_being_checked_cannot_follow_a_deactivation():
    control, controller = active()
    checking, deactivated = Signal(), Signal()

    def check():
        checking.set()
        deactivated.wait(0.2)
        return None

    def deactivate():
        control.deactivate('test')
        deactivated.set()

    resume = Thread(target=lambda: control.resume('service', check))
    resume.start()
    checking.wait(5)
    deactivate()
    resume.join(5)
    assert controller.state is State.READY


def test_nothing_starts_once_the_process_is_about_to_end():
    control, controller = active()
    assert control.start('goal') is None
    control.end('SIGTERM')
    assert controller.state is State.READY
    assert 'SIGTERM' in control.start('goal')
    assert not control.resume('service', possible).accepted


def test_a_part_of_the_node_that_fails_holds_an_arm_that_moves_and_no_other():
    control, controller = active()
    control.fail('timer: ValueError')
    assert controller.state is State.READY
    control.start('goal')
    control.fail('timer: ValueError')
    assert controller.state is State.HOLDING and 'ValueError' in controller.machine.reason
