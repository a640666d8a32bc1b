"""Conversions between values of this package and ROS messages."""

from builtin_interfaces.msg import Time
import numpy as np
from rclpy.duration import Duration
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.runner import Answer
from sqap_vla_ros.msg import ActionChunk as ActionChunkMsg
from sqap_vla_ros.msg import InferenceStats, TokenSelection
from sqap_vla_ros.policy import TokenSelection as Selection
from sqap_vla_ros.ros.common.camera_info import image_intrinsics


def stamp_to_ns(stamp: Time) -> int:
    """Convert a builtin_interfaces/Time to nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def header(stamp_ns: int, frame_id: str) -> Header:
    """Make a header with a stamp in nanoseconds."""
    return Header(
        stamp=Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000),
        frame_id=frame_id,
    )


def pinhole_camera(
    info: CameraInfo,
    position_m: np.ndarray,
    quaternion: np.ndarray,
    size: tuple[int, int] | None = None,
    rectified: bool = False,
) -> PinholeCamera:
    """
    Make a camera model.

    Args:
        info: Intrinsics of the full image, with the part of it that is sent.
        position_m: Position [3] of the optical frame in the base frame.
        quaternion: Orientation [4] of the optical frame in the base frame, x y z w; unit length
            within 1e-3.
        size: Width and height of the image, pixels; None: not known, then not compared.
        rectified: Whether the image is undistorted.

    Returns:
        The camera that took the image as it arrives.

    Raises:
        UserError: The intrinsics or the pose make no sense, or the image is of another size.
    """
    found = image_intrinsics(info, size, rectified)
    if not np.isfinite(position_m).all() or abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        raise UserError(
            'camera extrinsics: position is not finite or the quaternion is not of unit length'
        )
    base_from_optical = np.eye(4)
    base_from_optical[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    base_from_optical[:3, 3] = position_m
    return PinholeCamera(
        found.matrix,
        np.linalg.inv(base_from_optical),
        found.width,
        found.height,
        found.distortion_model,
        found.distortion,
    )


def chunk_message(chunk: ActionChunk, frame_id: str) -> ActionChunkMsg:
    """Make an ActionChunk message; `frame_id` is the frame of the velocities."""
    spec = chunk.spec
    return ActionChunkMsg(
        header=header(chunk.stamp_ns, frame_id),
        action_names=list(spec.names),
        action_units=list(spec.units),
        step_duration=Duration(nanoseconds=round(spec.step_s * 1e9)).to_msg(),
        values=chunk.values.reshape(-1).tolist(),
        generation=chunk.generation,
    )


def stats_message(
    answer: Answer, frame_id: str, description: dict, inferences: int, overruns: int
) -> InferenceStats:
    """
    Make the InferenceStats message of one inference.

    Args:
        answer: The inference.
        frame_id: Frame of the header.
        description: `Policy.describe` of the policy.
        inferences: Number of inferences so far.
        overruns: How many of them took longer than their chunk lasts.

    Returns:
        The message.
    """
    inference = answer.inference
    stages = {k: v for k, v in inference.latencies_ms.items() if k != 'total'}
    return InferenceStats(
        header=header(inference.chunk.stamp_ns, frame_id),
        stage_names=list(stages),
        stage_latencies_ms=list(stages.values()),
        total_latency_ms=inference.latencies_ms['total'],
        observation_age_ms=answer.age_s * 1e3,
        tokens_in=inference.tokens,
        tokens_kept=inference.tokens_kept,
        backend=str(description.get('backend', 'torch')),
        weight_bits=description['weight_bits'],
        activation_bits=description['activation_bits'],
        inferences=inferences,
        overruns=overruns,
    )


def selection_message(selection: Selection, stamp_ns: int, frame_id: str) -> TokenSelection:
    """Make the TokenSelection message of one inference."""
    return TokenSelection(
        header=header(stamp_ns, frame_id),
        grid_rows=selection.grid[0],
        grid_columns=selection.grid[1],
        kept=selection.kept.tolist(),
        criterion=selection.criterion.tolist(),
    )
