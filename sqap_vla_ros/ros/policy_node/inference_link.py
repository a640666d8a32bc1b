"""What happens around each inference of the policy node: from the inputs to the controller."""

from collections.abc import Callable
from dataclasses import replace

from sqap_vla_ros.compression.pruning.phase import PhaseGate
from sqap_vla_ros.control.chunk_executor import Offer
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.governor import TokenGovernor
from sqap_vla_ros.control.joint_command import JointCommand
from sqap_vla_ros.control.real_time_chunking import continuation
from sqap_vla_ros.control.state_machine import Event, State
from sqap_vla_ros.inference.client import ERROR, InferenceClient, ProcessInference, ThreadInference
from sqap_vla_ros.inference.runner import Answer, Request
from sqap_vla_ros.policy import Continuation
from sqap_vla_ros.profiles.action_mapping import ActionMapping
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Answered, Commanded, Observed
from sqap_vla_ros.runtime_options import RuntimeOptions

FINE_SPEED_M_S = 0.05
"""Below this speed of the end effector work is fine, and gets all tokens."""


def make_client(policy: str, settings: dict) -> InferenceClient:
    """Make what runs a policy directory, as the node's parameters say; not started yet."""
    runtime = RuntimeOptions(
        settings['device'], settings['threads'], cuda_graphs=settings['cuda_graphs']
    )
    if settings['inference_process']:
        return ProcessInference(policy, runtime, settings['inference_deadline_s'])
    return ThreadInference(policy, runtime)


def commanded(command) -> Commanded:
    """Entry of the black box for a `Command` or `JointCommand`."""
    if isinstance(command, JointCommand):
        return Commanded(joints=dict(command.velocities), gripper=command.gripper)
    return Commanded(command.linear_m_s, command.angular_rad_s, gripper=command.gripper)


class InferenceLink:
    """
    Callbacks of an `InferenceRunner`; they run in its thread.

    The token budget follows `TokenGovernor`, where `governed`.
    """

    def __init__(
        self,
        node,
        controller: Controller,
        inputs,
        mapping: ActionMapping,
        state_names: tuple[str, ...],
        black_box: BlackBox,
        instruction: Callable[[], str | None],
        period_s: Callable[[], float],
        governed: bool,
        continues: bool,
    ) -> None:
        """
        Connect.

        node: whose clock and logger are used; state_names: of the policy; instruction: what to
        do, None while nothing may be inferred; period_s: of inferences, now; continues: whether
        each is to continue the chunk in use.
        """
        self._node, self._controller, self._inputs = node, controller, inputs
        self._mapping, self._black_box = mapping, black_box
        self._state_names = state_names
        self._instruction, self._period_s = instruction, period_s
        self._governor = TokenGovernor() if governed else None
        self._phase = PhaseGate(FINE_SPEED_M_S)
        self._continues = continues
        self._chunk = None
        """The last one that was accepted, as the policy gave it."""
        self._used_stamp_ns = -1
        self._generation, self._since_reset = None, 0
        self.listeners: list[Callable] = []
        """Called with each answer and its chunk as executed."""

    @property
    def token_share(self) -> float:
        """Share of the recipe's token budget for coarse motion now."""
        return 1.0 if self._governor is None else self._governor.share(fine=False)

    def next_request(self) -> Request | None:
        """Take the newest observation that was not used yet, while the arm is to be moved."""
        instruction = self._instruction()
        if instruction is None or self._controller.state is not State.RUNNING:
            return None
        generation = self._controller.generation
        taken = self._inputs.observation(instruction)
        if taken is None or taken[0].stamp_ns == self._used_stamp_ns:
            return None
        observation, received_s = taken
        self._used_stamp_ns = observation.stamp_ns
        if generation != self._generation:
            self._phase.reset()
            self._chunk = None
        if self._continues:
            observation = replace(observation, continuation=self._continuation(observation))
        request = Request(observation, generation, received_s, self._share(observation))
        self._count(request)
        return request

    def answered(self, answer: Answer) -> None:
        """Offer the chunk to the controller."""
        request, inference = answer.request, answer.inference
        chunk = replace(self._mapping.chunk(inference.chunk), generation=request.generation)
        now_ns = self._node.get_clock().now().nanoseconds
        if self._controller.offer(chunk, now_ns) is Offer.ACCEPTED:
            self._chunk = inference.chunk
        if self._governor is not None:
            self._governor.answered(request.budget, answer.age_s, self._period_s())
        selection = inference.selection
        self._black_box.add(
            Answered(
                replace(inference.chunk, generation=request.generation),
                inference.latencies_ms,
                answer.age_s,
                inference.tokens,
                inference.tokens if selection is None else len(selection.kept),
            ),
            now_ns,
        )
        for listener in self.listeners:
            listener(answer, chunk)

    def failed(self, reason: str, text: str) -> None:
        """Hold, or count a bad chunk."""
        self._generation = None  # the runner resets the policy
        self._node.get_logger().error(f'inference {reason}: {text}', throttle_duration_sec=1.0)
        if reason == ERROR:
            self._controller.bad_chunk(text)
        else:
            self._controller.event(Event.INFERENCE_FAILED, f'{reason}: {text}')

    def _continuation(self, observation):
        follow = continuation(
            self._chunk, observation.stamp_ns, self._controller.delay_s, self._period_s()
        )
        return follow and Continuation(*follow)

    def _share(self, observation):
        if self._governor is None:
            return 1.0
        gripper = None
        if observation.state is not None and 'gripper' in self._state_names:
            gripper = float(observation.state[self._state_names.index('gripper')])
        return self._governor.share(
            self._phase.fine(observation.stamp_ns, observation.end_effector_m, gripper)
        )

    def _count(self, request) -> None:
        """Keep what a replay needs to know of the policy's memory."""
        reset = request.generation != self._generation
        self._generation = request.generation
        self._since_reset = 0 if reset else self._since_reset + 1
        self._black_box.add(
            Observed(request.observation, request.generation, self._since_reset, request.budget),
            self._node.get_clock().now().nanoseconds,
        )
