"""Latency from a camera image to the first command that can depend on it, over DDS."""

from pathlib import Path

from geometry_msgs.msg import TwistStamped
import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.msg import ActionChunk, InferenceStats
from sqap_vla_ros.ros.common.messages import stamp_to_ns
from sqap_vla_ros.system.client import SystemClient
from sqap_vla_ros.system.command_timing import goals, TASK
from sqap_vla_ros.system.session import SimulatedSession


class CommandLatency:
    """
    Pairs received chunks with commands.

    A chunk carries the stamp of its image, and the next command is the first that can follow the
    chunk. Both stamps are of the clock of the robot. The latency includes the transport of the
    image, waiting for the previous inference, inference, and waiting for the command loop; it
    excludes the transport to this client.
    """

    def __init__(self, client: SystemClient) -> None:
        """Listen to the policy node of a client."""
        self.latencies_ms: list[float] = []
        self.inference_ms: list[float] = []
        self._images_ns: list[int] = []
        client.listen(
            ActionChunk,
            'policy_node/action_chunk',
            lambda message: self._images_ns.append(stamp_to_ns(message.header.stamp)),
        )
        client.listen(
            InferenceStats,
            'policy_node/inference_stats',
            lambda message: self.inference_ms.append(message.total_latency_ms),
        )
        client.listen(TwistStamped, 'twist_command', self._take)

    def _take(self, message: TwistStamped) -> None:
        while self._images_ns:
            age_ns = stamp_to_ns(message.header.stamp) - self._images_ns.pop(0)
            if age_ns > 0:
                self.latencies_ms.append(age_ns / 1e6)

    def report(self) -> dict:
        """Return percentiles in ms. Raises UserError if no chunk came."""
        if not self.latencies_ms or not self.inference_ms:
            raise UserError('no chunk was followed by a command; `sqap_vla demo` shows why')
        return {
            'chunks': len(self.latencies_ms),
            'image_to_command_ms': _percentiles(self.latencies_ms),
            'inference_ms': _percentiles(self.inference_ms),
        }


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f'p{p}': round(float(np.percentile(values, p)), 2) for p in (50, 95, 99, 100)}


def run(policy: Path, output: Path, seconds: float) -> dict:
    """Start simulated arm and policy, run goals for `seconds`, and return the latencies."""
    with SimulatedSession(policy, output, TASK, 0) as session:
        latency = CommandLatency(session.client)
        for execute in goals(session.client, seconds):
            execute()
        return latency.report()
