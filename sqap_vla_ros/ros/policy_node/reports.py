"""Everything that the policy node publishes about itself; nothing here moves the arm."""

from collections.abc import Iterable, Mapping
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String
from visualization_msgs.msg import Marker

from sqap_vla_ros.action_chunk import ActionChunk as Chunk
from sqap_vla_ros.control.controller_config import ControllerStatus
from sqap_vla_ros.inference.runner import Answer
from sqap_vla_ros.msg import ActionChunk, InferenceStats, TokenSelection
from sqap_vla_ros.overlay import draw_overlays
from sqap_vla_ros.ros.common.graph_checks import GraphChecks, QOS, TYPE
from sqap_vla_ros.ros.common.image_messages import rgb_to_image
from sqap_vla_ros.ros.common.messages import (
    chunk_message,
    header,
    selection_message,
    stats_message,
)
from sqap_vla_ros.ros.common.problems import Problem, ProblemLog
from sqap_vla_ros.ros.common.qos import LATCHED
from sqap_vla_ros.ros.policy_node.controller_check import ControllerCheck
from sqap_vla_ros.ros.policy_node.diagnostics import (
    diagnostic_array,
    input_problems,
    input_values,
    memory_mb,
)
from sqap_vla_ros.ros.policy_node.inputs import Inputs
from sqap_vla_ros.ros.policy_node.measurements import LatencyWindow

PATH_WIDTH_M = 0.004
FIRST_MESSAGE_S = 1.0
"""After a topic was subscribed to, how long its silence says nothing."""


class Reports:
    """
    Publishers of state, chunks, statistics, token selections, overlay, path and diagnostics.

    Args:
        node: Node that publishes.
        frame_id: Base frame, which commands and poses are in.
        graph: Looks at the other nodes.
        controllers: Asks the controllers of the arm for their parameters; None: nobody does.
    """

    def __init__(
        self,
        node: Node,
        frame_id: str,
        graph: GraphChecks,
        controllers: ControllerCheck | None = None,
    ) -> None:
        self._node, self._frame_id = node, frame_id
        self._graph, self._controllers = graph, controllers
        self._problems = ProblemLog(node.get_logger().warning)
        self.arguments: Iterable[Problem] = ()
        """What is wrong with the command line."""
        self._state = node.create_publisher(String, '~/state', LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self._chunk = node.create_publisher(ActionChunk, '~/action_chunk', 1)
        self._stats = node.create_publisher(InferenceStats, '~/inference_stats', 10)
        self._selection = node.create_publisher(TokenSelection, '~/token_selection', 1)
        self._overlay = node.create_publisher(Image, '~/overlay', 1)
        self._path = node.create_publisher(Marker, '~/commanded_path', 1)
        self.reset({})

    def reset(self, description: dict) -> None:
        """
        Reset the counters for a newly loaded policy.

        Args:
            description: `Policy.describe` of that policy.
        """
        self._description = description
        self._latencies = LatencyWindow()
        self.ignored_instructions = 0
        """Instructions on the topic that came while a goal was running."""

    def state(self, state: str, reason: str) -> None:
        """Publish the state, latched: 'HOLDING: stale input: ...'."""
        self._state.publish(String(data=f'{state}: {reason}'))

    def answered(self, answer: Answer, chunk: Chunk) -> None:
        """Publish an inference; called from the thread of the runner."""
        self._latencies.add(answer, answer.age_s > chunk.spec.horizon * chunk.spec.step_s)
        self._chunk.publish(chunk_message(chunk, self._frame_id))
        self._stats.publish(
            stats_message(
                answer,
                self._frame_id,
                self._description,
                self._latencies.inferences,
                self._latencies.overruns,
            )
        )
        self._publish_path(answer, chunk)
        selection = answer.inference.selection
        if selection is not None:
            self._selection.publish(selection_message(selection, chunk.stamp_ns, self._frame_id))

    def overlay(self, answer: Answer) -> None:
        """Publish the overlay if there is a subscriber."""
        if not self._overlay.get_subscription_count():
            return
        observation = answer.request.observation
        picture = draw_overlays(
            observation.images,
            answer.inference.selection,
            observation.cameras,
            observation.end_effector_m,
        )
        self._overlay.publish(rgb_to_image(picture, header(observation.stamp_ns, self._frame_id)))

    def diagnose(
        self,
        state: str,
        reason: str,
        inputs: Inputs | None = None,
        status: ControllerStatus | None = None,
        token_share: float = 1.0,
        unavailable: str | None = None,
        failures: Mapping[str, int] | None = None,
    ) -> None:
        """
        Publish diagnostics.

        Args:
            state: State of the control runtime.
            reason: Why it is in this state.
            inputs: None while the node is not configured.
            status: None while the node is not configured.
            token_share: Share of the token budget of the recipe that coarse motion may use.
            unavailable: Why there can be no inference; None while there can.
            failures: What failed, see `FailureLog`, to how often.
        """
        values = {'token budget (%)': f'{100 * token_share:.0f}'}
        problems: list[str] = []
        found = [*self.arguments, *self._graph.problems()]
        explained = {problem.subject for problem in found if problem.kind in (TYPE, QOS)}
        if inputs is not None:
            protects = self._description.get('protection_radius_m', 0.0) > 0
            topics, problems = input_values(inputs, protects)
            values |= topics
            missing = [
                problem
                for problem in input_problems(inputs, protects)
                if problem.subject not in explained
            ]
            found += missing
            # Those tell the state of now; the first messages take a moment to come.
            if time.monotonic() - inputs.since_s > FIRST_MESSAGE_S:
                problems += [problem.text for problem in missing]
        if status is not None:
            values |= {f'chunks: {k.value}': str(n) for k, n in status.offers.items()}
            values |= {f'limited: {k.value}': str(n) for k, n in status.limits.items()}
            found += [
                Problem(
                    'frozen',
                    name,
                    f'{name} is frozen: same image, new stamps, while the arm moves; restart the '
                    'camera',
                )
                for name in status.frozen_cameras
            ]
        if unavailable is not None and unavailable not in reason:
            problems.append(f'no inference: {unavailable}')
        if self._controllers is not None:
            self._controllers.tick()
            found += [Problem('controller', text, text) for text in self._controllers.problems]
        told = self._problems.update(found)
        problems += [text for text in told if text not in problems]
        values |= self._latencies.summary() | self._policy_values()
        values |= {name: str(count) for name, count in (failures or {}).items()}
        values['node memory peak (MB)'] = memory_mb()
        values['ignored instructions'] = str(self.ignored_instructions)
        self._diagnostics.publish(
            diagnostic_array(
                self._node.get_clock().now().to_msg(),
                self._node.get_fully_qualified_name(),
                state,
                reason,
                problems,
                values,
            )
        )

    def _publish_path(self, answer: Answer, chunk: Chunk) -> None:
        start_m = answer.request.observation.end_effector_m
        if start_m is None or not self._path.get_subscription_count():
            return
        marker = path_marker(chunk, start_m, self._frame_id)
        if marker is not None:
            self._path.publish(marker)

    def _policy_values(self) -> dict[str, str]:
        last, values = self._latencies.last, {}
        if last is not None:
            inference = last.inference
            values['tokens kept'] = f'{inference.tokens_kept} of {inference.tokens}'
        return values | {key: str(value) for key, value in self._description.items()}


def path_marker(chunk: Chunk, start_m: NDArray[np.float64], frame_id: str) -> Marker | None:
    """
    Draw the positions that a chunk leads the end effector through, for RViz.

    This is what the policy wants, before the limits.

    Args:
        chunk: Chunk with the columns linear.x, .y and .z, in m/s or m.
        start_m: Measured end effector [3], base frame.
        frame_id: Base frame.

    Returns:
        A line; None for a chunk without linear columns or with non-finite values.
    """
    columns = {name: index for index, name in enumerate(chunk.spec.names)}
    indices = [columns[f'linear.{axis}'] for axis in 'xyz' if f'linear.{axis}' in columns]
    if len(indices) != 3 or not chunk.finite:
        return None
    per_row = chunk.spec.units[indices[0]] == 'm'
    steps = chunk.values[:, indices] * (1.0 if per_row else chunk.spec.step_s)
    points = np.vstack([start_m, start_m + np.cumsum(steps, axis=0)])
    marker = Marker(
        header=header(chunk.stamp_ns, frame_id),
        ns='commanded_path',
        type=Marker.LINE_STRIP,
        action=Marker.ADD,
    )
    marker.scale.x = PATH_WIDTH_M
    marker.color.r, marker.color.g, marker.color.a = 1.0, 0.55, 1.0
    marker.pose.orientation.w = 1.0
    marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in points]
    return marker
