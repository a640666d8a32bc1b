"""
The policy node: camera images and an instruction in, commands for the arm out.

Threads: that of the executor (callbacks, goals, diagnostics), of the services that stop
(`ControlServices`), of image decoding (`Inputs`), of the inference runner, of the command loop and
of signals (`run_node`). They share the `Controller` and the `MotionControl`, which have locks.
"""

import os
import sys
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from sqap_vla_ros.control.controller_config import ControllerStatus
from sqap_vla_ros.control.state_machine import Event, FAULTS, State, Transition
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceClient
from sqap_vla_ros.profiles.notes import notes_on
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Changed
from sqap_vla_ros.ros.common.callbacks import describe, explain, FailureLog, logged_hook
from sqap_vla_ros.ros.common.graph_checks import GraphChecks
from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.common.priorities import preferred
from sqap_vla_ros.ros.common.problems import Problem
from sqap_vla_ros.ros.common.qos import override_names, subscribe
from sqap_vla_ros.ros.common.throttle import Throttle
from sqap_vla_ros.ros.policy_node import parameters
from sqap_vla_ros.ros.policy_node.configured import Configured
from sqap_vla_ros.ros.policy_node.control_services import ControlServices
from sqap_vla_ros.ros.policy_node.controller_check import ControllerCheck
from sqap_vla_ros.ros.policy_node.inference_link import make_client
from sqap_vla_ros.ros.policy_node.instruction import quoted, read_instruction
from sqap_vla_ros.ros.policy_node.motion_control import MotionControl
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs
from sqap_vla_ros.ros.policy_node.reports import Reports
from sqap_vla_ros.ros.policy_node.state_teller import StateTeller
from sqap_vla_ros.runtime_options import stay_offline

EVENTS_S = 0.05
"""Period of reporting events and answers and of checking the goal."""
DIAGNOSTICS_S = 1.0
INSTRUCTION_LOG_S = 1.0
"""Shortest time between two lines about the same of instructions from the topic."""
SAVED = {*FAULTS, Event.HOLD, Event.ESTOP}
"""Events that save the black box when they end motion."""
SWITCH_INTERVAL_S = 0.0005
CLOCK = 'use_sim_time'


class PolicyNode(LifecycleNode):
    """
    Lifecycle node: configure loads and tests the policy, activate allows commands out.

    Motion starts from a goal, from `~/resume`, or, with `start_on_instruction`, from an
    instruction on the topic; never from a latched message or a restart.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('policy_node', **options)
        self.settings, self._profile = parameters.declare_settings(self)
        self._started = self.settings
        self.add_on_set_parameters_callback(self._set_parameters)
        self._configured: Configured | None = None
        self._loading: InferenceClient | None = None
        """What `on_configure` waits for."""
        self._instruction = ''
        self._control = MotionControl()
        self._failures = FailureLog(self)
        self._instructions = Throttle(INSTRUCTION_LOG_S)
        self._outputs = AllOutputs(self, self._profile, self.settings.dry_run)
        self._reports = Reports(
            self,
            self.settings.base_frame,
            GraphChecks(
                self,
                self._outputs.published,
                not self.settings.dry_run,
                self._outputs.unserved,
            ),
            ControllerCheck(self, self._profile),
        )
        self._black_box = BlackBox(
            self.settings.black_box_s,
            parameters.black_box_directory(self.settings),
            self.get_logger().info,
            self.settings.black_box_mb * 10**6,
        )
        self._state = StateTeller(
            self._control, self._reports.state, self.get_logger().info, self._note
        )
        subscribe(self, String, 'instruction', self._receive_instruction, 1, raw=True)
        subscribe(self, Bool, 'task_success', self._receive_success, 1)
        self.create_service(Trigger, '~/save', self._save)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(EVENTS_S, self._watch_goal, clock=steady)
        self.create_timer(DIAGNOSTICS_S, self._diagnose, clock=steady)
        self._control_services = ControlServices(
            self,
            {
                'resume': self._resume,
                'reset_estop': lambda: self._control.reset_estop('service'),
                'hold': lambda: self._control.hold('service'),
                'estop': lambda: self._control.estop('service'),
            },
            self._state.tell,
            EVENTS_S,
            self.callback_failed,
        )

    # Lifecycle

    @logged_hook
    def on_configure(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy, warm it up and test it; a failure is one line in the log."""
        try:
            configured = self._configure()
        except Exception as error:
            if self._control.ending:
                self.get_logger().info(f'configure ends: {self._control.ending}')
            else:
                self.get_logger().error(f'cannot configure: {explain(error)}')
            return TransitionCallbackReturn.FAILURE
        for note in notes_on(self._profile):
            self.get_logger().info(note)
        info = configured.client.info
        self.get_logger().info(
            f'policy {info.description.get("checkpoint")}: recipe {info.description["recipe"]}, '
            f'backend {info.description.get("backend")}, {info.description.get("runtime")}, '
            f'{info.warm_up_ms:.0f} ms per inference, content '
            f'{str(info.description.get("content_sha256"))[:12]}'
        )
        return TransitionCallbackReturn.SUCCESS

    @logged_hook
    def on_activate(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Allow commands out; the arm does not move yet."""
        if self._configured is None or not self._control.activate():
            return TransitionCallbackReturn.FAILURE
        self._configured.commands.start()
        return TransitionCallbackReturn.SUCCESS

    @logged_hook
    def on_deactivate(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Stop along the stop profile, send a final hold, and stop commanding."""
        self._stop_commanding('deactivated')
        return TransitionCallbackReturn.SUCCESS

    @logged_hook
    def on_cleanup(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Unload the policy."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    @logged_hook
    def on_shutdown(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Stop, send a final hold, unload."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    @logged_hook
    def on_error(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Stop and unload; the node can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop the arm and release the policy; idempotent."""
        self._stop_commanding('shutdown')
        self._release()

    def destroy_node(self) -> None:
        """End the thread of the services, and destroy the node."""
        self._control_services.close()
        super().destroy_node()

    def begin(self) -> None:
        """Configure and activate where the parameter asks for it; see `run_node`."""
        if (
            self.settings.autostart
            and self.trigger_configure() == TransitionCallbackReturn.SUCCESS
            and not self._control.ending
        ):
            self.trigger_activate()

    def interrupt(self, why: str) -> None:
        """Begin to stop, and end the loading of a policy; see `run_node`."""
        self._control.end(why)
        loading = self._loading
        if loading is not None:
            loading.close()

    def note_arguments(self, problems: list[Problem]) -> None:
        """Tell in log and diagnostics what of the command line has no effect; see `run_node`."""
        self._reports.arguments = problems

    def expected_names(self) -> list[str]:
        """List names that exist only while a policy is loaded; see `argument_problems`."""
        profile = self._profile
        return [*profile.input_topics, *profile.command_names]

    def expected_actions(self) -> list[str]:
        """List all actions, of which some exist only later; see `argument_problems`."""
        return ['execute_instruction', *self._outputs.actions]

    def expected_parameters(self) -> list[str]:
        """List parameters that exist only while a policy is loaded; see `argument_problems`."""
        resolved = map(self.resolve_topic_name, self._profile.input_topics)
        return [name for topic in resolved for name in override_names(topic)]

    def callback_failed(self, name: str, error: Exception, refused: bool) -> None:
        """Log and count an error; the arm holds unless it only rejects a message or request."""
        self._failures.add(name, error, refused)
        if not refused:
            self._control.fail(f'internal error: {name}: {describe(error)}')

    def make_client(self, policy: str) -> InferenceClient:
        """Make the client that runs a policy directory; not started yet."""
        return make_client(policy, self.settings, self.get_logger().info)

    def _configure(self) -> Configured:
        parameters.check_acknowledged(self.settings, self._profile)
        if not self.settings.policy:
            raise UserError(
                'parameter policy is empty; set it to the directory of a policy, float or made '
                'by `sqap_vla compress`'
            )
        client = self.make_client(os.path.expanduser(self.settings.policy))
        self._loading = client
        try:
            if self._control.ending:
                raise UserError(f'interrupted: {self._control.ending}')
            configured = Configured(
                self,
                self,
                client,
                self.settings,
                self._profile,
                self._outputs,
                self._black_box,
                self.callback_failed,
            )
        finally:
            self._loading = None
        self._reports.reset(configured.client.info.description)
        configured.link.listeners.append(self._reports.answered)
        try:
            configured.start()
        except BaseException:
            configured.release()
            raise
        self._configured = configured
        self._state.attach(configured.controller, configured.transitions)
        return configured

    def _release(self) -> None:
        configured, self._configured = self._configured, None
        self._state.detach()
        if configured is not None:
            configured.release()
        self._state.tell()

    def _stop_commanding(self, reason: str) -> None:
        configured = self._configured
        if not self._control.deactivate(reason) or configured is None:
            return
        try:
            configured.goals.abort(reason, f'the node was stopped: {reason}')
        finally:
            configured.commands.stop()

    # Callbacks

    def _receive_instruction(self, serialized: bytes) -> None:
        configured = self._configured
        if configured is not None and configured.goals.active:
            self._reports.ignored_instructions += 1
            return
        try:
            text = read_instruction(serialized, self.settings.max_instruction_length)
            if configured is not None:
                configured.vocabulary.check(text)
        except UserError as error:
            if self._instructions.passes('refused'):
                self.get_logger().warning(f'instruction: {error}')
            return
        running = configured is not None and configured.controller.state is State.RUNNING
        if text == self._instruction and running:
            return
        if self._instructions.passes('taken'):
            self.get_logger().info(f'instruction: {quoted(text)}')
        self._instruction = text
        if running or (self.settings.start_on_instruction and not self._control.held):
            refusal = self._start('instruction topic', unless_held=True)
            if refusal is not None and self._instructions.passes('not started'):
                self.get_logger().warning(f'instruction: not started: {refusal}')

    def _receive_success(self, message: Bool) -> None:
        if self._configured is not None:
            self._configured.goals.success(message.data)

    def _resume(self) -> Transition:
        transition = self._control.resume('service', self._why_not_resume)
        if self._configured is not None:
            self._configured.runner.wake()
        return transition

    def _why_not_resume(self) -> str | None:
        if not self._instruction:
            return 'there is no instruction yet'
        configured = self._configured
        if configured is None:
            return None
        try:
            # It may have come before there was a policy to check it with.
            configured.vocabulary.check(self._instruction)
        except UserError as error:
            return str(error)
        return configured.runner.unavailable

    def _save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._black_box.save(asked=True)
        return response

    def _set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            for change in changes:
                if change.name == CLOCK and change.value != self.get_parameter(CLOCK).value:
                    raise ValueError(
                        f'{CLOCK} is fixed when the node starts: the age of measurements is '
                        f'counted by its clock; start the node with -p {CLOCK}:=...'
                    )
            settings = parameters.changed(self.settings, changes, self._started)
            if self._configured is not None:
                self._configured.apply(settings)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        except Exception as error:
            self.callback_failed('parameters', error, True)
            return SetParametersResult(successful=False, reason=describe(error))
        self.settings = settings
        return SetParametersResult(successful=True)

    # `goals.Motion`

    def refusal(self) -> str | None:
        """See `Motion`."""
        return self._control.refusal()

    def stop_count(self) -> int:
        """See `Motion`."""
        return self._control.stops

    def start_instruction(self, instruction: str, reason: str, stops: int) -> str | None:
        """See `Motion`."""
        refusal = self.refusal()
        if refusal is not None:
            return refusal
        self._instruction = instruction
        if self._configured is not None and self._configured.runner.unavailable is not None:
            return self._configured.runner.unavailable
        return self._start(reason, stops)

    def _start(
        self, reason: str, stops: int | None = None, unless_held: bool = False
    ) -> str | None:
        refusal = self._control.start(reason, stops, unless_held)
        if refusal is None and self._configured is not None:
            self._configured.runner.wake()
        return refusal

    def current_instruction(self) -> str | None:
        """See `Motion`."""
        return self._instruction if self._control.active else None

    def stop(self, reason: str) -> None:
        """See `Motion`."""
        if self._configured is not None:
            self._configured.controller.event(Event.FINISHED, reason)

    def motion_state(self) -> tuple[str, str]:
        """See `Motion`."""
        state, reason = self._control.state()
        return state.value, reason

    def queue_depth(self) -> int:
        """See `Motion`."""
        status = self._status()
        return 0 if status is None else status.queue_depth

    # Reports

    def _note(self, transition: Transition) -> None:
        """Record a transition; save what led to it where it ended motion."""
        text = f'{transition.after.value}: {transition.reason}'
        self._black_box.add(Changed(text), self.get_clock().now().nanoseconds)
        if transition.before is State.RUNNING and transition.event in SAVED:
            self._black_box.save()
        if transition.after is State.RUNNING:
            self._outputs.repeat_gripper()

    def _watch_goal(self) -> None:
        """Report answers since the last call, and check the goal."""
        configured = self._configured
        if configured is None:
            return
        while configured.answers:
            answer = configured.answers.popleft()
            configured.goals.answered(answer)
            if not configured.answers:
                self._reports.overlay(answer)
        configured.goals.tick()

    def _diagnose(self) -> None:
        configured = self._configured
        failures = dict(self._failures.counts)
        if configured is None:
            self._reports.diagnose(*self.motion_state(), failures=failures)
            return
        self._reports.diagnose(
            *self.motion_state(),
            configured.inputs,
            self._status(),
            configured.link.token_share,
            configured.runner.unavailable,
            failures,
        )

    def _status(self) -> ControllerStatus | None:
        if self._configured is None:
            return None
        return self._configured.controller.status(self.get_clock().now().nanoseconds)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; it sends a final hold before it ends."""
    # The command loop must not wait 5 ms, Python's default, for a callback that holds the GIL.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stay_offline()  # for inference_process: false

    def make() -> PolicyNode:
        with preferred():
            return PolicyNode()

    return run_node('policy_node', make, arguments)


if __name__ == '__main__':
    sys.exit(main())
