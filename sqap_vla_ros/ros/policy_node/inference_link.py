"""What happens around each inference: request from the inputs, answer to the controller."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
import os

from rclpy.node import Node

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.compression.pruning.phase import FINE_SPEED_M_S, PhaseGate
from sqap_vla_ros.control.chunk_executor import Offer
from sqap_vla_ros.control.controller import Controller
from sqap_vla_ros.control.governor import TokenGovernor
from sqap_vla_ros.control.real_time_chunking import continuation
from sqap_vla_ros.control.state_machine import Event, State
from sqap_vla_ros.inference.client import ERROR, InferenceClient, ProcessInference, ThreadInference
from sqap_vla_ros.inference.runner import Answer, CHANGED, Request
from sqap_vla_ros.policy import Continuation, Observation, PolicySpec
from sqap_vla_ros.profiles.action_mapping import ActionMapping
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Answered, Observed
from sqap_vla_ros.recording.images import KeptImage
from sqap_vla_ros.ros.common.throttle import Throttle
from sqap_vla_ros.ros.policy_node.inputs import Inputs
from sqap_vla_ros.ros.policy_node.parameters import PolicyNodeSettings

NO_RECIPE = 'none'
"""Value of the parameter `recipe` that means the same as an empty one."""
LOG_PERIOD_S = 1.0
"""Shortest time between two lines about inferences that failed for one reason."""
Listener = Callable[[Answer, ActionChunk], None]
"""Called with an answer and its chunk in the columns of the robot."""


def make_client(
    policy: str, settings: PolicyNodeSettings, tell: Callable[[str], None]
) -> InferenceClient:
    """
    Make the client that runs a policy; it is not started yet.

    Args:
        policy: Directory of the policy.
        settings: Parameters of the node: recipe, process or thread, device, threads, time
            limits.
        tell: Called with what is being done while the policy is compressed.

    Returns:
        The client.
    """
    recipe = '' if settings.recipe == NO_RECIPE else os.path.expanduser(settings.recipe)
    if settings.inference_process:
        return ProcessInference(
            policy,
            settings.runtime(),
            settings.inference_deadline_s,
            settings.policy_load_timeout_s,
            recipe=recipe,
            tell=tell,
        )
    return ThreadInference(policy, settings.runtime(), recipe, tell)


@dataclass(frozen=True)
class Source:
    """What requests are made of."""

    inputs: Inputs
    instruction: Callable[[], str | None]
    """What the policy is asked to do; None while nothing may be inferred."""
    spec: PolicySpec


@dataclass(frozen=True)
class Sink:
    """Where requests and answers go."""

    controller: Controller
    mapping: ActionMapping
    """From the columns of the policy to those of the robot."""
    black_box: BlackBox


@dataclass(frozen=True)
class LinkOptions:
    """How inferences are requested."""

    period_s: float
    """Time between inferences."""
    governed: bool
    """Whether `TokenGovernor` sets the token budget."""
    continues: bool
    """Whether each chunk is inferred as a continuation of the one in use."""


class InferenceLink:
    """
    Callbacks of an `InferenceRunner`; they run in its thread.

    Args:
        node: Node whose clock and logger are used.
        source: What requests are made of.
        sink: Where requests and answers go.
        options: See `LinkOptions`.
    """

    def __init__(self, node: Node, source: Source, sink: Sink, options: LinkOptions) -> None:
        self.options = options
        """`period_s` may be changed at any time by replacing the options."""
        self.listeners: list[Listener] = []
        self._node, self._source, self._sink = node, source, sink
        self._governor = TokenGovernor() if options.governed else None
        self._phase = PhaseGate(FINE_SPEED_M_S)
        self._chunk: ActionChunk | None = None
        """The last accepted chunk, in the columns of the policy."""
        self._failures = Throttle(LOG_PERIOD_S)
        self._used_stamp_ns = -1
        self._generation: int | None = None
        self._since_reset = 0

    @property
    def token_share(self) -> float:
        """Share of the token budget of the recipe that coarse motion gets now."""
        return 1.0 if self._governor is None else self._governor.share(fine=False)

    def next_request(self) -> Request | None:
        """Make a request of the newest unused observation; None while the arm must not move."""
        instruction = self._source.instruction()
        controller = self._sink.controller
        if instruction is None or controller.state is not State.RUNNING:
            return None
        generation = controller.generation
        taken = self._source.inputs.observation(instruction)
        if taken is None or taken.observation.stamp_ns == self._used_stamp_ns:
            return None
        observation = taken.observation
        self._used_stamp_ns = observation.stamp_ns
        if generation != self._generation:
            self._phase.reset()
            self._chunk = None
        if self.options.continues:
            observation = replace(observation, continuation=self._continuation(observation))
        request = Request(observation, generation, taken.received_s, self._share(observation))
        self._record(request, taken.images)
        return request

    def answered(self, answer: Answer) -> None:
        """Offer the chunk of an answer to the controller."""
        request, inference = answer.request, answer.inference
        mapped = self._sink.mapping.chunk(inference.chunk, request.observation.end_effector_xyzw)
        chunk = replace(mapped, generation=request.generation)
        now_ns = self._node.get_clock().now().nanoseconds
        if self._sink.controller.offer(chunk, now_ns) is Offer.ACCEPTED:
            self._chunk = inference.chunk
        if self._governor is not None:
            self._governor.answered(request.budget, answer.age_s, self.options.period_s)
        self._sink.black_box.add(
            Answered(
                replace(inference.chunk, generation=request.generation),
                inference.latencies_ms,
                answer.age_s,
                inference.tokens,
                inference.tokens_kept,
            ),
            now_ns,
        )
        for listener in self.listeners:
            listener(answer, chunk)

    def failed(self, reason: str, text: str) -> None:
        """
        Report a failed inference to the controller: an unusable answer is counted, others hold.

        Where another policy has taken the place of the one that everything was configured for,
        nothing moves until the node is configured again.

        Args:
            reason: As `InferenceRunner` gives it.
            text: What happened, one line.
        """
        self._generation = None  # the runner resets the policy
        if self._failures.passes(reason):
            self._node.get_logger().error(f'inference {reason}: {text}')
        if reason == ERROR:
            self._sink.controller.bad_chunk(text)
        elif reason == CHANGED:
            self._sink.controller.event(Event.POLICY_CHANGED, text)
        else:
            self._sink.controller.event(Event.INFERENCE_FAILED, f'{reason}: {text}')

    def _continuation(self, observation: Observation) -> Continuation | None:
        return continuation(
            self._chunk,
            observation.stamp_ns,
            self._sink.controller.delay_s,
            self.options.period_s,
        )

    def _share(self, observation: Observation) -> float:
        if self._governor is None:
            return 1.0
        gripper = self._source.spec.gripper(observation.state)
        return self._governor.share(
            self._phase.fine(observation.stamp_ns, observation.end_effector_m, gripper)
        )

    def _record(self, request: Request, images: Mapping[str, KeptImage]) -> None:
        """Record the request with what a replay needs: how long the policy was not reset."""
        reset = request.generation != self._generation
        self._generation = request.generation
        self._since_reset = 0 if reset else self._since_reset + 1
        self._sink.black_box.add(
            Observed(
                request.observation,
                request.generation,
                self._since_reset,
                request.budget,
                images,
            ),
            self._node.get_clock().now().nanoseconds,
        )
