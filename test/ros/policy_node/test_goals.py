"""The action's goals, with an executor that comes to each goal when the test says so."""

import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from rclpy.action import GoalResponse

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.ros.policy_node import goals as module
from sqap_vla_ros.ros.policy_node.instruction import Vocabulary
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

Result = ExecuteInstruction.Result


class Handle:
    """A goal handle that was accepted and is not executed by anybody."""

    def __init__(self, number, instruction='open the drawer'):
        self.goal_id = SimpleNamespace(uuid=bytes([number] * 16))
        self.request = ExecuteInstruction.Goal(instruction=instruction)
        self.is_active, self.is_cancel_requested, self.status = True, False, None

    def execute(self):
        """Do nothing: the executor has not come to it yet."""

    def succeed(self):
        self.status = 'succeeded'

    def abort(self):
        self.status = 'aborted'

    def canceled(self):
        self.status = 'canceled'


class Motion:
    """Moves while somebody has started it."""

    def __init__(self):
        self.started, self.stopped = [], []
        self.missing = None
        self.stops = 0
        self.state = 'HOLDING', 'finished'

    def refusal(self):
        return None

    def stop_count(self):
        return self.stops

    def start_instruction(self, instruction, reason, stops):
        if stops != self.stops or self.missing:
            return self.missing or 'stopped'
        self.started.append(instruction)
        self.state = 'RUNNING', 'start: goal'

    def stop(self, reason):
        self.stopped.append(reason)
        self.state = 'HOLDING', reason

    def motion_state(self):
        return self.state

    def queue_depth(self):
        return 0


class Execution:
    """One call of the execute callback, advanced by hand."""

    def __init__(self, goals, handle):
        self._coroutine, self.result = goals._execute(handle), None

    def go_on(self):
        try:
            self._coroutine.send(None)
        except StopIteration as end:
            self.result = end.value


@pytest.fixture
def motion():
    return Motion()


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def goals(monkeypatch, motion, warnings):
    monkeypatch.setattr(module, 'ActionServer', lambda *_, **__: None)
    log = SimpleNamespace(info=lambda _: None, warning=warnings.append)
    settings = PolicyNodeSettings(
        max_instruction_length=100, default_max_duration_s=5.0, goal_input_timeout_s=0.2
    )
    vocabulary = Vocabulary(('open', 'the', 'drawer'), 4, warnings.append)
    node = SimpleNamespace(get_logger=lambda: log)
    return module.InstructionGoals(node, settings, motion, vocabulary)


@pytest.mark.parametrize(
    'instruction, reason',
    [
        ('drücke den Knopf', 'no word that this policy knows; it knows: open, the, drawer'),
        ('open the drawer of the desk', 'has 6 words, this policy reads at most 4'),
        ('\x07', 'instruction is empty'),
    ],
)
def test_a_goal_that_the_policy_cannot_follow_is_rejected_in_one_line(
    goals, warnings, instruction, reason
):
    request = ExecuteInstruction.Goal(instruction=instruction)
    assert goals._accept_or_reject(request) == GoalResponse.REJECT
    (line,) = warnings
    assert line.startswith('goal rejected: ') and reason in line


def test_a_goal_with_an_unknown_word_is_accepted_and_the_word_named_once(goals, warnings):
    request = ExecuteInstruction.Goal(instruction='open the purple drawer')
    for _ in range(2):
        assert goals._accept_or_reject(request) == GoalResponse.ACCEPT
    (line,) = warnings
    assert "'purple' means nothing" in line and 'it knows: open, the, drawer' in line


def test_a_goal_is_not_judged_before_the_executor_has_come_to_it(goals, motion):
    handle = Handle(1)
    goals._accepted_goal(handle)
    goals.tick()  # the state is HOLDING: the arm has not been started yet
    assert goals.active and not motion.stopped
    execution = Execution(goals, handle)
    execution.go_on()
    assert motion.started == ['open the drawer'] and execution.result is None
    motion.state = 'HOLDING', 'stale input'
    goals.tick()
    execution.go_on()
    assert execution.result.error_code == Result.HELD and handle.status == 'aborted'


def test_a_goal_that_ended_before_it_was_executed_moves_nothing(goals, motion):
    handle = Handle(1)
    goals._accepted_goal(handle)
    goals.abort('deactivated', 'the node was stopped')
    execution = Execution(goals, handle)
    execution.go_on()
    assert execution.result.reason == 'deactivated' and not motion.started


def test_two_goals_in_quick_succession_are_both_answered(goals, motion):
    first, second = Handle(1, 'press the button'), Handle(2, 'open the drawer')
    goals._accepted_goal(first)
    goals._accepted_goal(second)
    executions = [Execution(goals, handle) for handle in (first, second)]
    for execution in executions:
        execution.go_on()
    assert executions[0].result.reason == 'preempted' and first.status == 'aborted'
    assert executions[1].result is None
    assert motion.started == ['open the drawer'], 'only the goal that runs may move the arm'
    goals.success(False)
    goals.success(True)
    executions[1].go_on()
    assert executions[1].result.error_code == Result.SUCCEEDED and second.status == 'succeeded'


def test_goals_may_be_executed_in_another_order_than_they_came(goals, motion):
    first, second = Handle(1, 'press the button'), Handle(2, 'open the drawer')
    goals._accepted_goal(first)
    goals._accepted_goal(second)
    late, early = Execution(goals, first), Execution(goals, second)
    early.go_on()
    late.go_on()
    assert motion.started == ['open the drawer'] and late.result.reason == 'preempted'
    assert goals.active


@pytest.fixture
def waiting(goals, motion):
    """Execute a goal whose inputs are not there yet: its handle and its execution."""
    motion.missing = 'camera/image_raw has never arrived'
    handle = Handle(1)
    goals._accepted_goal(handle)
    execution = Execution(goals, handle)
    execution.go_on()
    return handle, execution


def test_a_goal_waits_for_inputs_that_are_about_to_come(goals, motion, waiting):
    handle, _ = waiting
    goals.tick()
    assert not motion.started and handle.status is None
    motion.missing = None
    goals.tick()
    assert motion.started == ['open the drawer'] and handle.status is None


def test_a_goal_whose_inputs_stay_away_ends_with_an_error_that_names_them(goals, motion, waiting):
    handle, execution = waiting
    time.sleep(0.25)
    goals.tick()
    execution.go_on()
    assert handle.status == 'aborted' and not motion.started
    assert (execution.result.error_code, execution.result.reason) == (Result.ERROR, 'refused')
    assert execution.result.message == motion.missing


def test_a_goal_that_waits_for_inputs_can_be_canceled(goals, motion, waiting):
    handle, execution = waiting
    handle.is_cancel_requested = True
    goals.tick()
    execution.go_on()
    assert handle.status == 'canceled' and not motion.started


def test_a_goal_that_waits_for_inputs_never_starts_after_somebody_asked_to_stop(
    goals, motion, waiting
):
    _handle, execution = waiting
    motion.stops += 1
    motion.missing = None
    goals.tick()
    execution.go_on()
    assert execution.result.error_code == Result.HELD and not motion.started


def test_a_stop_that_is_answered_while_a_goal_is_being_accepted_counts(goals, motion):
    handle = Handle(1)
    assert goals._accept_or_reject(handle.request) == GoalResponse.ACCEPT
    motion.stops += 1  # by the thread of the control services, after the user knew of the goal
    goals._accepted_goal(handle)
    execution = Execution(goals, handle)
    execution.go_on()
    assert execution.result.error_code == Result.HELD and not motion.started
