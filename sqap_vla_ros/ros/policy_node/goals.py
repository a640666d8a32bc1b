"""The server of the ExecuteInstruction action: one goal at a time."""

from dataclasses import dataclass, field
import time
from typing import Protocol

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future

from sqap_vla_ros.action import ExecuteInstruction
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.runner import Answer
from sqap_vla_ros.ros.policy_node.instruction import clean_instruction, quoted, Vocabulary
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

Result = ExecuteInstruction.Result


class Motion(Protocol):
    """What the action and the inference need from the node that moves the arm."""

    def refusal(self) -> str | None:
        """Reason why no motion can start now; None if it can."""

    def stop_count(self) -> int:
        """How often anybody has asked to stop: a goal of before may not move the arm any more."""

    def start_instruction(self, instruction: str, reason: str, stops: int) -> str | None:
        """
        Start motion.

        Args:
            instruction: What the policy is asked to do.
            reason: Who asked for it, for the log.
            stops: `stop_count()` when it was asked for; a newer stop refuses it.

        Returns:
            None if motion started; otherwise why not.
        """

    def current_instruction(self) -> str | None:
        """Instruction to infer for; None while commands are not allowed out."""

    def stop(self, reason: str) -> None:
        """Decelerate to a hold."""

    def callback_failed(self, name: str, error: Exception, refused: bool) -> None:
        """Take note of an error, see `Report`; the arm holds unless it only refuses something."""

    def motion_state(self) -> tuple[str, str]:
        """Name of the state and its reason; the arm moves only in 'RUNNING'."""

    def queue_depth(self) -> int:
        """Rows of the current chunk that have not been executed yet."""


@dataclass
class _Goal:
    handle: ServerGoalHandle
    instruction: str
    max_duration_s: float
    max_steps: int
    """0: no limit."""
    stops: int
    """`Motion.stop_count` just before it was accepted."""
    executed_s: float | None = None
    """When the executor called the execute callback, steady clock; None before that."""
    started_s: float | None = None
    """When motion started, steady clock; None while the goal waits for inputs."""
    steps: int = 0
    seen_unsuccessful: bool = False
    """Whether the success topic was false during the goal."""
    done: Future = field(default_factory=Future)


class InstructionGoals:
    """
    Serves the action; every method runs in the thread of the executor.

    A goal ends SUCCEEDED only if the success topic turns true while it runs. A goal that arrives
    while an input is stale, or before the first image, waits up to `goal_input_timeout_s`.

    Args:
        node: Node that serves the action.
        settings: Parameters of the node.
        motion: What starts and stops the arm.
        vocabulary: Words that the policy knows.
    """

    def __init__(
        self,
        node: Node,
        settings: PolicyNodeSettings,
        motion: Motion,
        vocabulary: Vocabulary = Vocabulary(),
    ) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self._node, self._motion, self._vocabulary = node, motion, vocabulary
        self._goal: _Goal | None = None
        self._stops = motion.stop_count()
        self._accepted: dict[bytes, _Goal] = {}
        self._server = ActionServer(
            node,
            ExecuteInstruction,
            'execute_instruction',
            execute_callback=self._execute,
            goal_callback=self._accept_or_reject,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            handle_accepted_callback=self._accepted_goal,
        )

    @property
    def active(self) -> bool:
        """Whether there is a goal; the instruction topic is ignored meanwhile."""
        return self._goal is not None

    def close(self, reason: str) -> None:
        """End the current goal with an error and destroy the server."""
        self._finish(Result.ERROR, reason, f'the node ended the goal: {reason}')
        self._server.destroy()

    def abort(self, reason: str, message: str) -> None:
        """End the current goal with an error."""
        self._finish(Result.ERROR, reason, message)

    def success(self, succeeded: bool) -> None:
        """Handle a message of the success topic; only a change to true during the goal counts."""
        goal = self._goal
        if goal is None:
            return
        if succeeded and goal.seen_unsuccessful:
            self._finish(Result.SUCCEEDED, 'success_topic', 'the success topic turned true')
        goal.seen_unsuccessful |= not succeeded

    def answered(self, answer: Answer) -> None:
        """Count an inference of the current goal and publish feedback."""
        goal = self._goal
        if goal is None or not goal.handle.is_active:
            return
        goal.steps += 1
        inference = answer.inference
        goal.handle.publish_feedback(
            ExecuteInstruction.Feedback(
                step=goal.steps,
                latency_ms=inference.latencies_ms['total'],
                observation_age_ms=answer.age_s * 1e3,
                queue_depth=self._motion.queue_depth(),
                tokens_kept=inference.tokens_kept,
                state=self._motion.motion_state()[0],
            )
        )
        if goal.max_steps and goal.steps >= goal.max_steps:
            self._finish(Result.TIMEOUT, 'max_steps', f'{goal.steps} inferences without success')

    def tick(self) -> None:
        """Check cancellation, duration and state; to be called periodically."""
        goal = self._goal
        if goal is None or goal.executed_s is None:
            return
        if goal.stops != self._motion.stop_count():
            self._held(goal)
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

    def _accept_or_reject(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        # Before it is accepted: whoever asks to stop once the goal is known must be heard.
        self._stops = self._motion.stop_count()
        problem = self._problem(request)
        if problem is None:
            return GoalResponse.ACCEPT
        self._node.get_logger().warning(f'goal rejected: {problem}')
        return GoalResponse.REJECT

    def _problem(self, request: ExecuteInstruction.Goal) -> str | None:
        try:
            self._vocabulary.check(
                clean_instruction(request.instruction, self.settings.max_instruction_length)
            )
        except UserError as error:
            return str(error)
        if request.max_duration.sec < 0:
            return f'max_duration is {request.max_duration.sec} s, expected 0 or more'
        if self._goal is not None and not self.settings.preempt_goals:
            return 'another goal is running (parameter preempt_goals is false)'
        return self._motion.refusal()

    def _accepted_goal(self, handle: ServerGoalHandle) -> None:
        request = handle.request
        duration = request.max_duration
        seconds = duration.sec + duration.nanosec / 1e9
        goal = _Goal(
            handle,
            clean_instruction(request.instruction, self.settings.max_instruction_length),
            seconds or self.settings.default_max_duration_s,
            request.max_steps,
            self._stops,
        )
        if self._goal is not None:
            self._finish(Result.CANCELED, 'preempted', 'preempted by a new goal')
        self._goal = self._accepted[bytes(handle.goal_id.uuid)] = goal
        handle.execute()

    async def _execute(self, handle: ServerGoalHandle) -> ExecuteInstruction.Result:
        goal = self._accepted.pop(bytes(handle.goal_id.uuid))
        goal.executed_s = time.monotonic()
        if not goal.done.done():  # a newer goal or the end of the node may have come first
            self._start(goal)
        code, reason, message = await goal.done
        return self._result(goal, handle, code, reason, message)

    def _start(self, goal: _Goal) -> None:
        if goal.handle.is_cancel_requested:
            self._finish(Result.CANCELED, 'cancel', 'canceled on request')
            return
        refusal = self._motion.start_instruction(goal.instruction, 'goal', goal.stops)
        now_s = time.monotonic()
        if refusal is None:
            goal.started_s = now_s
            self._node.get_logger().info(f'goal: {quoted(goal.instruction)}')
            return
        if goal.stops != self._motion.stop_count():
            self._held(goal)
            return
        waited_s = 0.0 if goal.executed_s is None else now_s - goal.executed_s
        if self._motion.refusal() is not None or waited_s > self.settings.goal_input_timeout_s:
            self._finish(Result.ERROR, 'refused', refusal)

    def _held(self, goal: _Goal) -> None:
        """End a goal that somebody has stopped; what was asked for since then goes on."""
        state, reason = self._motion.motion_state()
        reason = 'a request to stop' if state == 'RUNNING' else reason
        self._goal = None
        goal.done.set_result((Result.HELD, reason, f'motion was stopped: {reason}'))

    def _finish(self, code: int, reason: str, message: str) -> None:
        goal, self._goal = self._goal, None
        if goal is None:
            return
        if reason != 'preempted':
            self._motion.stop(f'goal: {reason}')
        goal.done.set_result((code, reason, message))

    def _result(
        self, goal: _Goal, handle: ServerGoalHandle, code: int, reason: str, message: str
    ) -> ExecuteInstruction.Result:
        now_s = time.monotonic()
        duration_s = now_s - (now_s if goal.executed_s is None else goal.executed_s)
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
