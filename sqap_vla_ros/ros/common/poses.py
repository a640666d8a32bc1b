"""Poses as messages: PoseStamped, TransformStamped, and the optional tf2_ros."""

from collections.abc import Iterable
from types import ModuleType

from geometry_msgs.msg import PoseStamped, TransformStamped
from std_msgs.msg import Header

from sqap_vla_ros.errors import UserError


def make_pose(
    header: Header, position_m: Iterable[float], quaternion: Iterable[float]
) -> PoseStamped:
    """
    Make a PoseStamped.

    Args:
        header: Stamp, and the frame that the pose is given in.
        position_m: Position [3].
        quaternion: Orientation [4], x y z w.

    Returns:
        The message.
    """
    message = PoseStamped(header=header)
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z = map(float, position_m)
    q.x, q.y, q.z, q.w = map(float, quaternion)
    return message


def pose_to_transform(pose: PoseStamped, child_frame_id: str) -> TransformStamped:
    """Make the transform of a frame from its pose; the orientation is shared, not copied."""
    message = TransformStamped(header=pose.header, child_frame_id=child_frame_id)
    p, translation = pose.pose.position, message.transform.translation
    translation.x, translation.y, translation.z = p.x, p.y, p.z
    message.transform.rotation = pose.pose.orientation
    return message


def transform_to_pose(transform: TransformStamped) -> PoseStamped:
    """Make the pose of the child frame in the parent frame; the orientation is shared."""
    message = PoseStamped(header=transform.header)
    p, translation = message.pose.position, transform.transform.translation
    p.x, p.y, p.z = translation.x, translation.y, translation.z
    message.pose.orientation = transform.transform.rotation
    return message


def import_tf2_ros() -> ModuleType:
    """
    Import tf2_ros, which only profiles with poses from TF need.

    Raises:
        UserError: tf2_ros is not installed.
    """
    try:
        import tf2_ros
    except ImportError:
        raise UserError(
            'TF: the profile takes poses from TF, for which tf2_ros is needed; '
            'install ros-$ROS_DISTRO-tf2-ros-py, or use source: topic'
        ) from None
    return tf2_ros
