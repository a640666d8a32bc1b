"""The ExecuteInstruction action: one goal at a time, from acceptance to an honest result."""

from dataclasses import dataclass, field
import time
from typing import Protocol

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.duration import Duration
from rclpy.task import Future

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.runner import Answer
from sqap_vla_ros.ros.policy_node.instruction import clean_instruction, quoted

Result = ExecuteInstruction.Result


class Motion(Protocol):
    """What the action needs from whoever moves the arm."""

    def refusal(self) -> str | None:
        """Say why no motion can start now; None when it can."""

    def start_instruction(self, instruction: str, reason: str) -> str | None:
        """Begin to move; returns why not, or None."""

    def stop(self, reason: str) -> None:
        """Decelerate to a hold."""

    def motion_state(self) -> tuple[str, str]:
        """Name and reason of the state; only 'RUNNING' moves."""

    def queue_depth(self) -> int:
        """Rows of the current chunk that are still to be executed."""


@dataclass
class _Goal:
    handle: object
    instruction: str
    max_duration_s: float
    max_steps: int
    executed_s: float | None = None
    """Steady clock; None while the executor has not come to it yet."""
    started_s: float | None = None
    """When motion was let go, steady clock; None while it waits for inputs."""
    steps: int = 0
    seen_unsuccessful: bool = False
    done: Future = field(default_factory=Future)


class InstructionGoals:
    """
    Serves the action; every method runs in the executor's thread.

    A goal ends SUCCEEDED only when the success topic turns true while it runs. One that comes
    while an input is stale, or before the first image, waits for it for `goal_input_timeout_s`.
    """

    def __init__(self, node, settings: dict, motion: Motion) -> None:
        self._node, self._settings, self._motion = node, settings, motion
        self._goal: _Goal | None = None
        self._accepted: dict[bytes, _Goal] = {}
        self._server = ActionServer(
            node,
            ExecuteInstruction,
            'execute_instruction',
            execute_callback=self._execute,
            goal_callback=self._judge,
            cancel_callback=self._judge_cancel,
            handle_accepted_callback=self._accept,
        )

    @property
    def active(self) -> bool:
        """Whether a goal runs: then the instruction topic is ignored."""
        return self._goal is not None

    def close(self, reason: str) -> None:
        """End the running goal with an error, and the server."""
        self._finish(Result.ERROR, reason, f'the node ended the goal: {reason}')
        self._server.destroy()

    def abort(self, reason: str, message: str) -> None:
        """End the running goal with an error."""
        self._finish(Result.ERROR, reason, message)

    def held(self, reason: str) -> None:
        """End a goal that still waits for inputs: it must not start once somebody said stop."""
        if self._goal is not None and self._goal.started_s is None:
            self._finish(Result.HELD, reason, f'motion was stopped: {reason}')

    def success(self, succeeded: bool) -> None:
        """Take a message of the success topic; only a change to true during a goal counts."""
        goal = self._goal
        if goal is None:
            return
        if succeeded and goal.seen_unsuccessful:
            self._finish(Result.SUCCEEDED, 'success_topic', 'the success topic turned true')
        goal.seen_unsuccessful |= not succeeded

    def answered(self, answer: Answer) -> None:
        """Count an inference and publish feedback."""
        goal = self._goal
        if goal is None or not goal.handle.is_active:
            return
        goal.steps += 1
        inference = answer.inference
        selection = inference.selection
        goal.handle.publish_feedback(
            ExecuteInstruction.Feedback(
                step=goal.steps,
                latency_ms=inference.latencies_ms['total'],
                observation_age_ms=answer.age_s * 1e3,
                queue_depth=self._motion.queue_depth(),
                tokens_kept=inference.tokens if selection is None else len(selection.kept),
                state=self._motion.motion_state()[0],
            )
        )
        if goal.max_steps and goal.steps >= goal.max_steps:
            self._finish(Result.TIMEOUT, 'max_steps', f'{goal.steps} inferences without success')

    def tick(self) -> None:
        """Look at cancellation, time and state; call often."""
        goal = self._goal
        if goal is None or goal.executed_s is None:
            return
        if goal.started_s is None:
            self._start(goal)
            return
        state, reason = self._motion.motion_state()
        if goal.handle.is_cancel_requested:
            self._finish(Result.CANCELED, 'cancel', 'canceled on request')
        elif state != 'RUNNING':
            self._finish(Result.HELD, reason, f'motion was stopped: {reason}')
        elif time.monotonic() - goal.started_s > goal.max_duration_s:
            self._finish(
                Result.TIMEOUT, 'max_duration', f'no success within {goal.max_duration_s:g} s'
            )

    def _judge(self, request):
        problem = self._problem(request)
        if problem is None:
            return GoalResponse.ACCEPT
        self._node.get_logger().warning(f'goal rejected: {problem}')
        return GoalResponse.REJECT

    def _problem(self, request):
        try:
            clean_instruction(request.instruction, self._settings['max_instruction_length'])
        except UserError as error:
            return str(error)
        if request.max_duration.sec < 0:
            return f'max_duration is {request.max_duration.sec} s, expected 0 or more'
        if self._goal is not None and not self._settings['preempt_goals']:
            return 'another goal runs (parameter preempt_goals is false)'
        return self._motion.refusal()

    def _judge_cancel(self, _):
        return CancelResponse.ACCEPT

    def _accept(self, handle) -> None:
        request = handle.request
        duration = request.max_duration
        seconds = duration.sec + duration.nanosec / 1e9
        goal = _Goal(
            handle,
            clean_instruction(request.instruction, self._settings['max_instruction_length']),
            seconds or self._settings['default_max_duration_s'],
            request.max_steps,
        )
        if self._goal is not None:
            self._finish(Result.CANCELED, 'preempted', 'a new goal took its place')
        self._goal = self._accepted[bytes(handle.goal_id.uuid)] = goal
        handle.execute()

    async def _execute(self, handle):
        goal = self._accepted.pop(bytes(handle.goal_id.uuid))
        goal.executed_s = time.monotonic()
        if not goal.done.done():  # a newer goal or the node's end may have come first
            self._start(goal)
        code, reason, message = await goal.done
        return self._result(goal, handle, code, reason, message)

    def _start(self, goal) -> None:
        if goal.handle.is_cancel_requested:
            self._finish(Result.CANCELED, 'cancel', 'canceled on request')
            return
        refusal = self._motion.start_instruction(goal.instruction, 'goal')
        now_s = time.monotonic()
        if refusal is None:
            goal.started_s = now_s
            self._node.get_logger().info(f'goal: {quoted(goal.instruction)}')
        elif (
            self._motion.refusal() is not None
            or now_s - goal.executed_s > self._settings['goal_input_timeout_s']
        ):
            self._finish(Result.ERROR, 'refused', refusal)

    def _finish(self, code, reason, message) -> None:
        goal, self._goal = self._goal, None
        if goal is None:
            return
        if reason != 'preempted':
            self._motion.stop(f'goal: {reason}')
        goal.done.set_result((code, reason, message))

    def _result(self, goal, handle, code, reason, message):
        duration_s = time.monotonic() - goal.executed_s
        if code == Result.SUCCEEDED:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        self._node.get_logger().info(f'goal ended: {message} after {duration_s:.1f} s')
        return Result(
            error_code=code,
            message=message,
            reason=reason,
            steps=goal.steps,
            duration=Duration(seconds=duration_s).to_msg(),
        )
