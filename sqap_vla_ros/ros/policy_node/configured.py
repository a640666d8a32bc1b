"""Everything that exists only while a policy is loaded, between configure and cleanup."""

from collections import deque
from contextlib import ExitStack
from dataclasses import replace

from rclpy.node import Node

from sqap_vla_ros.columns import GRIPPER
from sqap_vla_ros.control.chunk_executor import ExecutorConfig
from sqap_vla_ros.control.real_time_chunking import execution_mode
from sqap_vla_ros.control.state_machine import Event, Transition
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import InferenceClient, ProcessInference
from sqap_vla_ros.inference.runner import Answer, InferenceRunner
from sqap_vla_ros.profiles.action_mapping import ActionMapping
from sqap_vla_ros.profiles.robot_profile import RobotProfile
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.ros.common.callbacks import Report
from sqap_vla_ros.ros.common.graph_checks import shared_topics
from sqap_vla_ros.ros.policy_node.command_loop import CommandLoop
from sqap_vla_ros.ros.policy_node.controller_setup import (
    largest_gap_s,
    make_controller,
    motion_limits,
)
from sqap_vla_ros.ros.policy_node.goals import InstructionGoals, Motion
from sqap_vla_ros.ros.policy_node.inference_link import InferenceLink, LinkOptions, Sink, Source
from sqap_vla_ros.ros.policy_node.input_topics import topics_of
from sqap_vla_ros.ros.policy_node.inputs import Inputs, Received
from sqap_vla_ros.ros.policy_node.instruction import Vocabulary
from sqap_vla_ros.ros.policy_node.outputs.all_outputs import AllOutputs
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

LONG_STOP_S = 3.0
"""A stop that takes longer is told."""


class Configured:
    """
    The loaded policy and everything that connects it to the robot.

    The constructor loads the policy, which takes seconds; `start` lets inferences begin, and
    `release` frees everything.

    Args:
        node: Node that subscribes, publishes and serves.
        motion: What goals ask to move; the node itself.
        client: Runs the policy; not started yet. It is owned from now on.
        settings: Parameters of the node.
        profile: Robot profile.
        outputs: Where commands are published.
        black_box: Records observations, answers and commands.
        report: Told about errors of the thread of commands.

    Raises:
        UserError: The policy cannot be loaded, or does not fit the robot; nothing is left over.
    """

    def __init__(
        self,
        node: Node,
        motion: Motion,
        client: InferenceClient,
        settings: PolicyNodeSettings,
        profile: RobotProfile,
        outputs: AllOutputs,
        black_box: BlackBox,
        report: Report,
    ) -> None:
        self.client, self.outputs, self._profile = client, outputs, profile
        self.transitions: deque[Transition] = deque()
        """Accepted events that the node has not reported yet."""
        self.answers: deque[Answer] = deque(maxlen=16)
        """Answers that the node has not reported yet."""
        with ExitStack() as on_failure:
            on_failure.callback(client.close)
            client.start()
            spec = client.info.spec
            topics = topics_of(profile, spec)
            mapping = ActionMapping(profile, spec.action)
            if mapping.needs_orientation and profile.joint_space:
                raise UserError(
                    'policy: its actions are in the frame of the end effector; with '
                    f'action.space: {profile.action.space} nothing turns them to the base'
                )
            mode = execution_mode(settings.execution_mode, spec.continues)
            try:
                self.controller = make_controller(
                    mapping, topics, settings, profile, ExecutorConfig(mode)
                )
            except ValueError as error:
                raise UserError(f'parameters and profile: {error}') from None
            if self.controller.stop_time_s > LONG_STOP_S:
                node.get_logger().warning(
                    f'a stop takes up to {self.controller.stop_time_s:.1f} s with these limits; '
                    'emergency stop and shutdown take as long, and `ros2 launch` kills a node '
                    '10 s after Ctrl-C'
                )
            self.inputs = Inputs(node, settings, profile, spec, self._receive)
            on_failure.callback(self.inputs.close)
            shared = shared_topics(node, self.inputs.subscribed, outputs.published)
            if shared:
                raise UserError(f'topics: {shared[0]}')
            if GRIPPER in mapping.spec.names and not profile.gripper.outputs:
                node.get_logger().warning(
                    'the policy opens and closes a gripper, and gripper.outputs of the profile is '
                    'empty: nothing commands it'
                )
            self.vocabulary = Vocabulary(
                spec.words, spec.max_words, lambda text: node.get_logger().warning(text)
            )
            self.goals = InstructionGoals(node, settings, motion, self.vocabulary)
            on_failure.pop_all()
        self.controller.listen(self.transitions.append)
        self.link = InferenceLink(
            node,
            Source(self.inputs, motion.current_instruction, spec),
            Sink(self.controller, mapping, black_box),
            LinkOptions(1 / settings.inference_rate_hz, settings.token_governor, mode.continues),
        )
        self.link.listeners.append(lambda answer, _: self.answers.append(answer))
        self.link.listeners.append(lambda answer, _: self.vocabulary.tell(answer.inference.note))
        self.runner = InferenceRunner(
            client,
            self.link.next_request,
            self.link.answered,
            self.link.failed,
            1 / settings.inference_rate_hz,
        )
        self.commands = CommandLoop(
            node.get_clock(),
            self.controller,
            outputs,
            black_box,
            settings.command_rate_hz,
            report,
        )

    def start(self) -> None:
        """Let inferences begin as soon as motion starts; the controller becomes READY."""
        self.runner.start()
        self.controller.event(Event.CONFIGURED)

    def apply(self, settings: PolicyNodeSettings) -> None:
        """
        Use changed parameters from now on.

        Raises:
            ValueError: The limits cannot be changed now; then nothing is changed.
        """
        gap_s = largest_gap_s(settings, self._profile)
        if settings.motion_limits() != self.inputs.settings.motion_limits():
            self.controller.set_limits(motion_limits(settings, self._profile))
        self.controller.set_period(1 / settings.command_rate_hz, gap_s)
        self.inputs.settings = self.goals.settings = settings
        self.commands.rate_hz = settings.command_rate_hz
        period_s = 1 / settings.inference_rate_hz
        self.runner.period_s = period_s
        self.link.options = replace(self.link.options, period_s=period_s)
        if isinstance(self.client, ProcessInference):
            self.client.deadline_s = settings.inference_deadline_s
            self.client.load_timeout_s = settings.policy_load_timeout_s

    def release(self) -> None:
        """End the goal, the subscriptions and the inference, and unload the policy."""
        self.goals.close('the node is being cleaned up')
        self.inputs.close()
        self.runner.stop()  # closes the client, too
        self.controller.event(Event.SHUTDOWN)

    def _receive(self, topic: str, received: Received) -> None:
        topics, stamp_ns, age_s = self.inputs.topics, received.stamp_ns, received.age_s
        if topic in topics.images.values():
            self.controller.image(topic, received.value, stamp_ns, age_s)
            self.runner.wake()
        elif topic == topics.pose:
            position_m, quaternion_xyzw = received.value
            self.outputs.measure_orientation(quaternion_xyzw)
            self.controller.pose(position_m, stamp_ns, age_s, quaternion_xyzw)
        elif topic == topics.joints:
            self.controller.joints(received.value, stamp_ns, age_s, topic)
