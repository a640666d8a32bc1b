"""Where a chunk would lead the end effector, as a line for RViz."""

from geometry_msgs.msg import Point
import numpy as np
from visualization_msgs.msg import Marker

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.ros.common.messages import header

LINE_WIDTH_M = 0.004


def path_marker(chunk: ActionChunk, start_m: np.ndarray, frame_id: str) -> Marker | None:
    """
    Line from `start_m` [3] through the positions that the chunk's velocities lead to, base frame.

    It is what the policy wants, before limits. None for a chunk without linear velocities.
    """
    columns = {name: index for index, name in enumerate(chunk.spec.names)}
    indices = [columns.get(f'linear.{axis}') for axis in 'xyz']
    if None in indices or not chunk.finite:
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
    marker.scale.x = LINE_WIDTH_M
    marker.color.r, marker.color.g, marker.color.a = 1.0, 0.55, 1.0
    marker.pose.orientation.w = 1.0
    marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in points]
    return marker
