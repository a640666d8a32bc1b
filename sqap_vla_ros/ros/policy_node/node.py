"""
The policy node: camera images and an instruction in, commands for the arm out.

Threads: that of the executor (callbacks, goals, diagnostics), of the inference runner and of the
command loop. They share the `Controller`, which has its own lock.
"""

from collections.abc import Callable
import os
import sys
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from sqap_vla_ros.control.controller import ControllerStatus
from sqap_vla_ros.control.state_machine import Event, FAULTS, State, Transition
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceClient
from sqap_vla_ros.profiles.notes import notes_on
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Changed
from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.common.parameter_checks import unmatched_files, unused_parameters
from sqap_vla_ros.ros.policy_node import parameters
from sqap_vla_ros.ros.policy_node.configured import Configured
from sqap_vla_ros.ros.policy_node.inference_link import make_client
from sqap_vla_ros.ros.policy_node.instruction import clean_instruction, quoted
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs
from sqap_vla_ros.ros.policy_node.reports import Reports
from sqap_vla_ros.ros.policy_node.servo_check import ServoCheck

EVENTS_S = 0.05
"""Period of reporting events and answers and of checking the goal."""
DIAGNOSTICS_S = 1.0
SAVED = {*FAULTS, Event.HOLD, Event.ESTOP}
"""Events that save the black box when they end motion."""
SWITCH_INTERVAL_S = 0.0005


class PolicyNode(LifecycleNode):
    """
    Lifecycle node: configure loads and tests the policy, activate allows commands out.

    Motion starts from a goal, from `~/resume`, or, with `start_on_instruction`, from an
    instruction on the topic; never from a latched message or a restart.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('policy_node', **options)
        self.settings, self._profile = parameters.declare_settings(self)
        self.add_on_set_parameters_callback(self._set_parameters)
        self.failure: Exception | None = None
        """Ends the process, see `run_node`."""
        self._configured: Configured | None = None
        self._active = False
        self._instruction = ''
        self._hold_requested = False
        """Whether the user stopped motion; then the instruction topic does not restart it."""
        self._outputs = AllOutputs(self, self._profile, self.settings.dry_run)
        self._servo = ServoCheck(self, self._profile)
        self._reports = Reports(self, self.settings.base_frame, self._outputs.topics)
        self._black_box = BlackBox(
            self.settings.black_box_s,
            parameters.black_box_directory(self.settings),
            self.get_logger().info,
            self.settings.black_box_mb * 10**6,
        )
        self.create_subscription(String, 'instruction', self._receive_instruction, 1)
        self.create_subscription(Bool, 'task_success', self._receive_success, 1)
        commands: dict[str, Callable[[Configured], Transition]] = {
            'hold': lambda configured: self._halt(configured, Event.HOLD),
            'resume': self._resume,
            'estop': lambda configured: self._halt(configured, Event.ESTOP),
            'reset_estop': lambda configured: configured.controller.reset_estop('service'),
        }
        for name, command in commands.items():
            self.create_service(Trigger, f'~/{name}', self._service(command))
        self.create_service(Trigger, '~/save', self._save)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(EVENTS_S, self._report_events, clock=steady)
        self.create_timer(DIAGNOSTICS_S, self._diagnose, clock=steady)
        self._reports.state(*self.motion_state())

    # Lifecycle

    def on_configure(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy, warm it up and test it; a failure is one line in the log."""
        try:
            configured = self._configure()
        except UserError as error:
            self.get_logger().error(f'cannot configure: {error}')
            self._reports.state(*self.motion_state())
            return TransitionCallbackReturn.FAILURE
        for note in notes_on(self._profile):
            self.get_logger().info(note)
        info = configured.client.info
        self.get_logger().info(
            f'policy {info.description.get("checkpoint")}: recipe {info.description["recipe"]}, '
            f'backend {info.description.get("backend")}, {info.description.get("runtime")}, '
            f'{info.warm_up_ms:.0f} ms per inference'
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Allow commands out; the arm does not move yet."""
        if self._configured is None:
            return TransitionCallbackReturn.FAILURE
        self._active = True
        self._configured.commands.start()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Stop along the stop profile, send a final hold, and stop commanding."""
        self._stop_commanding('deactivated')
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Unload the policy."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Stop, send a final hold, unload."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, _: LifecycleState) -> TransitionCallbackReturn:
        """Stop and unload; the node can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop the arm and release the policy; idempotent."""
        self._stop_commanding('shutdown')
        self._release()

    def make_client(self, policy: str) -> InferenceClient:
        """Make the client that runs a policy directory; not started yet."""
        return make_client(policy, self.settings)

    def _configure(self) -> Configured:
        parameters.check_acknowledged(self.settings, self._profile)
        if not self.settings.policy:
            raise UserError(
                'parameter policy is empty; set it to the directory of a policy, as '
                'made by `sqap_vla compress`'
            )
        configured = Configured(
            self,
            self,
            self.make_client(os.path.expanduser(self.settings.policy)),
            self.settings,
            self._profile,
            self._outputs,
            self._black_box,
        )
        self._reports.reset(configured.client.info.description)
        configured.link.listeners.append(self._reports.answered)
        configured.start()
        self._configured = configured
        return configured

    def _release(self) -> None:
        if self._configured is not None:
            self._configured.release()
            self._configured = None
        self._reports.state(*self.motion_state())

    def _stop_commanding(self, reason: str) -> None:
        if not self._active or self._configured is None:
            return
        self._active = False
        self._configured.goals.abort(reason, f'the node was stopped: {reason}')
        self._configured.controller.event(Event.DEACTIVATED, reason)
        self._configured.commands.stop()

    # Callbacks

    def _receive_instruction(self, message: String) -> None:
        configured = self._configured
        if configured is not None and configured.goals.active:
            self._reports.ignored_instructions += 1
            return
        try:
            text = clean_instruction(message.data, self.settings.max_instruction_length)
            if configured is not None:
                configured.vocabulary.check(text)
        except UserError as error:
            self.get_logger().warning(f'instruction: {error}', throttle_duration_sec=2.0)
            return
        running = configured is not None and configured.controller.state is State.RUNNING
        if text == self._instruction and running:
            return
        self.get_logger().info(f'instruction: {quoted(text)}', throttle_duration_sec=1.0)
        self._instruction = text
        if running or (self.settings.start_on_instruction and not self._hold_requested):
            refusal = self.start_instruction(text, 'instruction topic')
            if refusal is not None:
                self.get_logger().warning(
                    f'instruction: not started: {refusal}', throttle_duration_sec=1.0
                )

    def _receive_success(self, message: Bool) -> None:
        if self._configured is not None:
            self._configured.goals.success(message.data)

    def _service(
        self, command: Callable[[Configured], Transition]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if self._configured is None:
                response.message = 'the node is not configured: nothing moves'
                return response
            transition = command(self._configured)
            response.success, response.message = transition.accepted, transition.reason
            return response

        return serve

    def _halt(self, configured: Configured, event: Event) -> Transition:
        self._hold_requested = True
        configured.goals.held('service')
        return configured.controller.event(event, 'service')

    def _resume(self, configured: Configured) -> Transition:
        state = configured.controller.state
        if not self._active or not self._instruction:
            why = 'the node is not active' if not self._active else 'there is no instruction yet'
            return Transition(state, Event.RESUME, state, why, False)
        try:
            # It may have come before there was a policy to check it with.
            configured.vocabulary.check(self._instruction)
        except UserError as error:
            return Transition(state, Event.RESUME, state, str(error), False)
        self._hold_requested = False
        transition = configured.controller.resume('service')
        configured.runner.wake()
        return transition

    def _save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self._black_box.save(asked=True)
        return response

    def _set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            settings = parameters.changed(self.settings, changes)
            if self._configured is not None:
                self._configured.apply(settings)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.settings = settings
        return SetParametersResult(successful=True)

    # `goals.Motion`

    def refusal(self) -> str | None:
        """See `Motion`."""
        if not self._active or self._configured is None:
            return 'the node is not active; activate it first'
        if self._configured.controller.state is State.ESTOPPED:
            return 'emergency stop; call ~/reset_estop first'
        return None

    def start_instruction(self, instruction: str, reason: str) -> str | None:
        """See `Motion`."""
        refusal = self.refusal()
        if refusal is not None or self._configured is None:
            return refusal
        self._instruction = instruction
        transition = self._configured.controller.start(reason)
        if not transition.accepted:
            return transition.reason
        self._hold_requested = False
        self._configured.runner.wake()
        return None

    def current_instruction(self) -> str | None:
        """See `Motion`."""
        return self._instruction if self._active else None

    def stop(self, reason: str) -> None:
        """See `Motion`."""
        if self._configured is not None:
            self._configured.controller.event(Event.FINISHED, reason)

    def motion_state(self) -> tuple[str, str]:
        """See `Motion`."""
        status = self._status()
        if status is None:
            return State.UNREADY.value, 'not configured'
        return status.state.value, status.reason

    def queue_depth(self) -> int:
        """See `Motion`."""
        status = self._status()
        return 0 if status is None else status.queue_depth

    # Reports

    def _report_events(self) -> None:
        """Report events of the controller and answers since the last call; check the goal."""
        configured = self._configured
        if configured is None:
            return
        while configured.transitions:
            transition = configured.transitions.popleft()
            text = f'{transition.after.value}: {transition.reason}'
            if transition.before is not transition.after:
                self.get_logger().info(text)
            self._reports.state(transition.after.value, transition.reason)
            self._black_box.add(Changed(text), self.get_clock().now().nanoseconds)
            if transition.before is State.RUNNING and transition.event in SAVED:
                self._black_box.save()
            if transition.after is State.RUNNING:
                self._outputs.repeat_gripper()
        while configured.answers:
            answer = configured.answers.popleft()
            configured.goals.answered(answer)
            if not configured.answers:
                self._reports.overlay(answer)
        configured.goals.tick()

    def _diagnose(self) -> None:
        configured = self._configured
        self._servo.tick()
        if configured is None:
            self._reports.diagnose(*self.motion_state())
            return
        self._reports.diagnose(
            *self.motion_state(), configured.inputs, self._status(), configured.link.token_share
        )

    def _status(self) -> ControllerStatus | None:
        if self._configured is None:
            return None
        return self._configured.controller.status(self.get_clock().now().nanoseconds)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; it sends a final hold before it ends."""
    # The command loop must not wait 5 ms, Python's default, for a callback that holds the GIL.
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def make() -> PolicyNode:
        node = PolicyNode()
        given = sys.argv if arguments is None else arguments
        for line in (
            *unused_parameters(node),
            *unmatched_files(given, node.get_fully_qualified_name()),
        ):
            node.get_logger().warning(line)
        if (
            node.settings.autostart
            and node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        ):
            node.trigger_activate()
        return node

    return run_node('policy_node', make, arguments)


if __name__ == '__main__':
    sys.exit(main())
