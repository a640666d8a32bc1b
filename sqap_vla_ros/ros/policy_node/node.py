"""
The policy node: camera image and instruction in, end-effector twists out.

Threads: the executor's (callbacks, goals, diagnostics), the inference runner's, and the command
loop's. They meet in the `Controller`, which has a lock of its own.
"""

from collections import deque
from dataclasses import replace
import os
import sys
import time

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from sqap_vla_ros.control.chunk_executor import ExecutorConfig
from sqap_vla_ros.control.controller import Controller, ControllerConfig
from sqap_vla_ros.control.controller import POSE as POSE_INPUT
from sqap_vla_ros.control.state_machine import Event, FAULTS, State, Transition
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceClient
from sqap_vla_ros.inference.runner import Answer, InferenceRunner
from sqap_vla_ros.profiles.action_mapping import ActionMapping, joint_limits
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Changed
from sqap_vla_ros.ros.common.node_process import run_node
from sqap_vla_ros.ros.policy_node import parameters
from sqap_vla_ros.ros.policy_node.command_loop import CommandLoop, read_both
from sqap_vla_ros.ros.policy_node.goals import InstructionGoals
from sqap_vla_ros.ros.policy_node.inference_link import commanded, InferenceLink, make_client
from sqap_vla_ros.ros.policy_node.inputs import Inputs, Sample, topics_of
from sqap_vla_ros.ros.policy_node.instruction import clean_instruction, quoted
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import Outputs
from sqap_vla_ros.ros.policy_node.reports import Reports

HOUSEKEEPING_S = 0.05
DIAGNOSTICS_S = 1.0
SAVED = {*FAULTS, Event.HOLD, Event.ESTOP}
"""What ends motion and is worth a look at the black box."""
SWITCH_INTERVAL_S = 0.0005
STOP_LIMIT_S = 3.0
"""No stop profile lasts longer; then the final hold is sent all the same."""


class PolicyNode(LifecycleNode):
    """
    Lifecycle: configure loads the policy and tests it, activate lets commands out.

    Motion starts from a goal, from `~/resume`, or from an instruction on the topic where
    `start_on_instruction` is set; never from a latched message or a restart.
    """

    def __init__(self, **options) -> None:
        super().__init__('policy_node', **options)
        self.settings, self._profile = parameters.declare(self)
        self.add_on_set_parameters_callback(self._set_parameters)
        self._instruction = ''
        self._controller: Controller | None = None
        self._transitions: deque[Transition] = deque()
        self._asked_for_hold = False
        self._still = True
        self._goals = self._runner = self._loop = self._inputs = self._client = None
        self._link = None
        self._answers: deque[Answer] = deque(maxlen=16)
        self._active = False
        self.failure = None
        """What ends the process, see `run_node`."""
        frame = self.settings['base_frame']
        self._reports = Reports(self, frame)
        self._output = Outputs(self, self._profile, self.settings['dry_run'])
        self._reports.command_topics = self._output.topics
        self._black_box = BlackBox(
            self.settings['black_box_s'],
            parameters.black_box_directory(self.settings),
            self.get_logger().info,
        )
        self.create_subscription(String, 'instruction', self._receive_instruction, 1)
        self.create_subscription(Bool, 'task_success', self._receive_success, 1)
        for name, command in (
            ('hold', lambda: self._halt(Event.HOLD)),
            ('resume', self._resume),
            ('estop', lambda: self._halt(Event.ESTOP)),
            ('reset_estop', self._reset_estop),
        ):
            self.create_service(Trigger, f'~/{name}', self._service(command))
        self.create_service(Trigger, '~/save', self._save)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(HOUSEKEEPING_S, self._keep_house, clock=steady)
        self.create_timer(DIAGNOSTICS_S, self._diagnose, clock=steady)
        self._reports.state(*self.motion_state())

    # Lifecycle

    def on_configure(self, _) -> TransitionCallbackReturn:
        """Load the policy in its worker, warm up, self-test; fails with one line in the log."""
        try:
            self._configure()
        except UserError as error:
            self.get_logger().error(f'cannot configure: {error}')
            self._release()
            return TransitionCallbackReturn.FAILURE
        info = self._client.info
        self.get_logger().info(
            f'policy {info.description.get("checkpoint")}: recipe {info.description["recipe"]}, '
            f'backend {info.description.get("backend")}, {info.description.get("runtime")}, '
            f'{info.warm_up_ms:.0f} ms an inference'
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, _) -> TransitionCallbackReturn:
        """Let commands out; the arm does not move yet."""
        self._active = True
        self._loop = CommandLoop(self._command, self.settings['command_rate_hz'])
        self._loop.start()
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, _) -> TransitionCallbackReturn:
        """Stop along the stop profile, send a final hold, and command no more."""
        self._stop_commanding('deactivated')
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, _) -> TransitionCallbackReturn:
        """Unload the policy."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, _) -> TransitionCallbackReturn:
        """Stop, send a final hold, unload."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, _) -> TransitionCallbackReturn:
        """Stop and unload; the node can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop the arm and let go of everything; idempotent."""
        self._stop_commanding('shutdown')
        self._release()

    def _configure(self) -> None:
        settings = self.settings
        parameters.check_acknowledged(settings, self._profile)
        if not settings['policy']:
            raise UserError(
                'parameter policy is empty; set it to the directory of a policy, as '
                'made by `sqap_vla compress`'
            )
        self._client = self.make_client(os.path.expanduser(settings['policy']))
        self._client.start()
        spec = self._client.info.spec
        self._mapping = ActionMapping(self._profile, spec.action)
        self._controller = self._make_controller(spec)
        self._controller.listen(self._transitions.append)
        self._reports.forget()
        self._reports.description = self._client.info.description
        self._inputs = Inputs(self, settings, self._profile, spec, self._receive_input)
        self._goals = InstructionGoals(self, settings, self)
        self._link = InferenceLink(
            self,
            self._controller,
            self._inputs,
            self._mapping,
            spec.state_names,
            self._black_box,
            lambda: self._instruction if self._active else None,
            lambda: 1 / self.settings['inference_rate_hz'],
            settings['token_governor'],
            self._continues,
        )
        self._link.listeners += [
            self._reports.answered,
            lambda answer, _: self._answers.append(answer),
        ]
        self._runner = InferenceRunner(
            self._client,
            self._link.next_request,
            self._link.answered,
            self._link.failed,
            1 / settings['inference_rate_hz'],
        )
        self._runner.start()
        self._controller.event(Event.CONFIGURED)

    def make_client(self, policy: str) -> InferenceClient:
        """Make what runs the policy; not started yet."""
        return make_client(policy, self.settings)

    def _make_controller(self, spec):
        settings = self.settings
        topics = topics_of(self._profile, spec)
        watched = [POSE_INPUT if name == topics.pose else name for name in topics.required]
        mode, self._continues = parameters.execution_mode(settings, spec.continues)
        config = ControllerConfig(
            command_period_s=1 / settings['command_rate_hz'],
            executor=ExecutorConfig(mode),
            input_timeouts_s=dict.fromkeys(watched, settings['observation_timeout_s']),
            hold_on_frozen_camera=settings['hold_on_frozen_camera'],
        )
        limits = parameters.motion_limits(settings)
        if self._profile.joint_space:
            limits = replace(limits, workspace_low_m=None, workspace_high_m=None)
        return Controller(
            self._mapping.spec, limits, config, time.monotonic_ns, joint_limits(self._profile)
        )

    def _release(self) -> None:
        if self._goals is not None:
            self._goals.close('the node is being cleaned up')
        if self._inputs is not None:
            self._inputs.close()
        if self._runner is not None:
            self._runner.stop()
        elif self._client is not None:
            self._client.close()
        if self._controller is not None:
            self._controller.event(Event.SHUTDOWN)
        self._goals = self._inputs = self._runner = self._client = self._controller = None
        self._link = None
        self._reports.state(*self.motion_state())

    def _stop_commanding(self, reason) -> None:
        if not self._active:
            return
        self._active = False
        if self._goals is not None:
            self._goals.abort(reason, f'the node was stopped: {reason}')
        self._controller.event(Event.DEACTIVATED, reason)
        limit_s = time.monotonic() + STOP_LIMIT_S
        while not self._still and time.monotonic() < limit_s:
            time.sleep(0.01)
        self._loop.stop()
        self._output.final_hold()
        self._loop = None

    # Commands and inference: called from the command loop's and the runner's threads

    def _command(self) -> None:
        now, steady_ns = read_both(self.get_clock())
        command = self._controller.tick(now.nanoseconds, steady_ns)
        self._still = command is None or command.still
        if command is not None:
            self._output.publish(command, now.to_msg())
            self._black_box.add(commanded(command), now.nanoseconds)

    # Callbacks of the executor

    def _receive_input(self, topic: str, sample: Sample) -> None:
        if topic in self._inputs.images.values():
            self._controller.image(topic, sample.value, sample.stamp_ns)
            self._runner.wake()
        elif topic == self._inputs.pose:
            self._controller.pose(sample.value[0])
        elif topic == self._inputs.joints:
            self._controller.joints(sample.value)
            self._controller.arrived(topic)

    def _receive_instruction(self, message) -> None:
        if self._goals is not None and self._goals.active:
            self._reports.ignored_instructions += 1
            return
        try:
            text = clean_instruction(message.data, self.settings['max_instruction_length'])
        except UserError as error:
            self.get_logger().warning(f'instruction: {error}', throttle_duration_sec=2.0)
            return
        running = self._controller is not None and self._controller.state is State.RUNNING
        if text == self._instruction and running:
            return
        self.get_logger().info(f'instruction: {quoted(text)}', throttle_duration_sec=1.0)
        self._instruction = text
        if running or (self.settings['start_on_instruction'] and not self._asked_for_hold):
            refusal = self.start_instruction(text, 'instruction topic')
            if refusal is not None:
                self.get_logger().warning(
                    f'instruction: not started: {refusal}', throttle_duration_sec=1.0
                )

    def _receive_success(self, message) -> None:
        if self._goals is not None:
            self._goals.success(message.data)

    def _service(self, command):
        def serve(_, response):
            if self._controller is None:
                response.message = 'the node is not configured: nothing moves'
                return response
            transition = command()
            response.success, response.message = transition.accepted, transition.reason
            return response

        return serve

    def _halt(self, event):
        self._asked_for_hold = True
        self._goals.held('service')
        return self._controller.event(event, 'service')

    def _resume(self):
        state = self._controller.state
        if not self._active or not self._instruction:
            why = 'the node is not active' if not self._active else 'there is no instruction yet'
            return Transition(state, Event.RESUME, state, why, False)
        self._asked_for_hold = False
        transition = self._controller.resume('service')
        self._runner.wake()
        return transition

    def _reset_estop(self):
        return self._controller.reset_estop('service')

    def _save(self, _, response):
        response.success, response.message = self._black_box.save(asked=True)
        return response

    def _set_parameters(self, changes):
        result = parameters.check_change(self.settings, changes)
        if not result.successful:
            return result
        values = {
            **self.settings,
            **{p.name: p.value for p in changes if p.name in parameters.BY_NAME},
        }
        limits = parameters.motion_limits(values)
        if self._controller is not None and limits != parameters.motion_limits(self.settings):
            try:
                self._controller.set_limits(limits)
            except ValueError as error:
                result.successful, result.reason = False, str(error)
                return result
        self.settings.update(values)
        if self._loop is not None:
            self._loop.rate_hz = values['command_rate_hz']
        if self._runner is not None:
            self._runner.period_s = 1 / values['inference_rate_hz']
            self._client.deadline_s = values['inference_deadline_s']
        return result

    # What a goal asks of the node: `goals.Motion`

    def refusal(self) -> str | None:
        """See `Motion`."""
        if not self._active:
            return 'the node is not active; activate it first'
        state = self._controller.state
        if state is State.ESTOPPED:
            return 'emergency stop; call ~/reset_estop first'
        return None

    def start_instruction(self, instruction: str, reason: str) -> str | None:
        """See `Motion`."""
        refusal = self.refusal()
        if refusal is not None:
            return refusal
        self._instruction = instruction
        transition = self._controller.start(reason)
        if not transition.accepted:
            return transition.reason
        self._asked_for_hold = False
        self._runner.wake()
        return None

    def stop(self, reason: str) -> None:
        """See `Motion`."""
        if self._controller is not None:
            self._controller.event(Event.FINISHED, reason)

    def motion_state(self) -> tuple[str, str]:
        """See `Motion`."""
        if self._controller is None:
            return State.UNREADY.value, 'not configured'
        status = self._status()
        return status.state.value, status.reason

    def queue_depth(self) -> int:
        """See `Motion`."""
        return self._status().queue_depth

    # Reports

    def _keep_house(self) -> None:
        if self._goals is None:
            return
        while self._transitions:
            transition = self._transitions.popleft()
            if transition.before is not transition.after:
                self.get_logger().info(f'{transition.after.value}: {transition.reason}')
            self._reports.state(transition.after.value, transition.reason)
            self._black_box.add(
                Changed(f'{transition.after.value}: {transition.reason}'),
                self.get_clock().now().nanoseconds,
            )
            if transition.before is State.RUNNING and transition.event in SAVED:
                self._black_box.save()
            if transition.after is State.RUNNING:
                self._output.repeat_gripper()
        while self._answers:
            answer = self._answers.popleft()
            self._goals.answered(answer)
            if not self._answers:
                self._reports.show(answer)
        self._goals.tick()

    def _diagnose(self) -> None:
        status = None if self._controller is None else self._status()
        share = 1.0 if self._link is None else self._link.token_share
        self._reports.diagnose(*self.motion_state(), self._inputs, status, share)

    def _status(self):
        return self._controller.status(self.get_clock().now().nanoseconds)


def main(arguments: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; a final hold is sent before it ends."""
    # The command loop must not wait 5 ms, Python's default, for a callback that holds the lock.
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    def make():
        node = PolicyNode()
        if (
            node.settings['autostart']
            and node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        ):
            node.trigger_activate()
        return node

    return run_node('policy_node', make, arguments)


if __name__ == '__main__':
    sys.exit(main())
