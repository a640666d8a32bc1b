"""Everything that the policy node tells about itself; nothing here moves the arm."""

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
from visualization_msgs.msg import Marker

from sqap_vla_ros.action_chunk import ActionChunk as Chunk
from sqap_vla_ros.control.controller import ControllerStatus
from sqap_vla_ros.inference.runner import Answer
from sqap_vla_ros.msg import ActionChunk, InferenceStats, TokenSelection
from sqap_vla_ros.overlay import draw_overlays
from sqap_vla_ros.ros.common.image_conversion import rgb_to_image
from sqap_vla_ros.ros.common.messages import (
    chunk_message,
    header,
    selection_message,
    stats_message,
)
from sqap_vla_ros.ros.policy_node.diagnostics import (
    diagnostic_array,
    input_values,
    LatencyWindow,
    memory_mb,
)
from sqap_vla_ros.ros.policy_node.graph_checks import other_publishers
from sqap_vla_ros.ros.policy_node.path_marker import path_marker


class Reports:
    """Publishers of state, chunks, statistics, token selections, overlay and diagnostics."""

    def __init__(self, node, frame_id: str) -> None:
        self._node, self._frame_id = node, frame_id
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._state = node.create_publisher(String, '~/state', latched)
        self._diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self._chunk = node.create_publisher(ActionChunk, '~/action_chunk', 1)
        self._stats = node.create_publisher(InferenceStats, '~/inference_stats', 10)
        self._selection = node.create_publisher(TokenSelection, '~/token_selection', 1)
        self._overlay = node.create_publisher(Image, '~/overlay', 1)
        self.command_topics: list[str] = []
        """Where nobody else should publish."""
        self._path = node.create_publisher(Marker, '~/commanded_path', 1)
        self.forget()

    def forget(self) -> None:
        """Begin the counts anew: another policy."""
        self.latencies = LatencyWindow()
        self.description = {}
        """`Policy.describe` of the loaded policy."""
        self.ignored_instructions = 0

    def state(self, state: str, reason: str) -> None:
        """Tell the state, latched: 'HOLDING: stale input: ...'."""
        self._state.publish(String(data=f'{state}: {reason}'))

    def answered(self, answer: Answer, chunk: Chunk) -> None:
        """Tell of an inference; called from the runner's thread."""
        self.latencies.add(answer, answer.age_s > chunk.spec.horizon * chunk.spec.step_s)
        self._chunk.publish(chunk_message(chunk, self._frame_id))
        self._stats.publish(
            stats_message(
                answer,
                self._frame_id,
                self.description,
                self.latencies.inferences,
                self.latencies.overruns,
            )
        )
        self._show_path(answer, chunk)
        selection = answer.inference.selection
        if selection is not None:
            self._selection.publish(selection_message(selection, chunk.stamp_ns, self._frame_id))

    def _show_path(self, answer, chunk) -> None:
        start_m = answer.request.observation.end_effector_m
        if start_m is None or not self._path.get_subscription_count():
            return
        marker = path_marker(chunk, start_m, self._frame_id)
        if marker is not None:
            self._path.publish(marker)

    def show(self, answer: Answer) -> None:
        """Publish the overlay, where somebody looks."""
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
        inputs=None,
        status: ControllerStatus | None = None,
        token_share: float = 1.0,
    ) -> None:
        """
        Publish diagnostics; `inputs` and `status` are None while nothing is configured.

        token_share: of the recipe's token budget that coarse motion may use.
        """
        values, problems = {'token budget (%)': f'{100 * token_share:.0f}'}, []
        if inputs is not None:
            topics, problems = input_values(
                inputs, self.description.get('protection_radius_m', 0.0) > 0
            )
            values |= topics
        if status is not None:
            values |= {f'chunks: {k.value}': str(n) for k, n in status.offers.items()}
            values |= {f'limited: {k.value}': str(n) for k, n in status.limits.items()}
            problems += [
                f'{name} is frozen: same image, new stamps' for name in status.frozen_cameras
            ]
        problems += other_publishers(self._node, self.command_topics)
        values |= self.latencies.summary() | self._policy_values()
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

    def _policy_values(self):
        last, values = self.latencies.last, {}
        if last is not None:
            selection = last.inference.selection
            kept = last.inference.tokens if selection is None else len(selection.kept)
            values['tokens kept'] = f'{kept} of {last.inference.tokens}'
        return values | {key: str(value) for key, value in self.description.items()}
