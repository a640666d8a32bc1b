"""Models of the cameras: from the profile, CameraInfo and poses, for the image that they took."""

from collections.abc import Callable, Mapping
import math
import time

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.profiles.names import is_rectified
from sqap_vla_ros.profiles.robot_profile import Camera, Intrinsics
from sqap_vla_ros.ros.common.messages import pinhole_camera
from sqap_vla_ros.ros.common.throttle import Throttle
from sqap_vla_ros.ros.policy_node.input_messages import Pose

LOG_PERIOD_S = 2.0
"""Shortest time between two lines about one camera."""
FRAME_PERIOD_S = 10.0
"""Shortest time between two lines about the frame of one topic."""
SHOWN = 60
"""Characters of a frame from a message that are shown."""


class CameraModels:
    """
    Makes camera models, and keeps why one cannot be made.

    A problem is logged when it appears or changes, not with every image: without a model, the
    robot works on, and only the tokens around the end effector are not protected from pruning.

    Args:
        cameras: Cameras of the policy, by name.
        warn: Called with one line for each problem.
    """

    def __init__(self, cameras: Mapping[str, Camera], warn: Callable[[str], object]) -> None:
        self._cameras, self._warn = cameras, warn
        self._logged: dict[str, tuple[str, float]] = {}
        """Camera to the problem that was logged last, and when (steady clock, s)."""
        self._frames: dict[str, str] = {}
        self._frame_warnings = Throttle(FRAME_PERIOD_S)
        self._problems: dict[str, str] = {}

    def problems(self) -> list[str]:
        """One line for each camera without a model, though all that it needs has arrived."""
        return list(self._problems.values())

    def frame_problems(self) -> list[str]:
        """One line for each topic that came from another frame than the profile's."""
        return list(self._frames.values())

    def check_frame(self, topic: str, camera: Camera, frame_id: str) -> None:
        """Warn where the frame of a camera's messages begins not to be that of the profile."""
        if frame_id == camera.optical_frame:
            self._frames.pop(topic, None)
        else:
            text = (
                f'{topic}: frame_id is {frame_id[:SHOWN]!a}, expected {camera.optical_frame!r} '
                f'(optical_frame of camera {camera.name!r} in the profile); the pose in use is '
                'that of optical_frame'
            )
            if topic not in self._frames and self._frame_warnings.passes(topic):
                self._warn(text)
            self._frames[topic] = text

    def check_remapped(self, camera: Camera, topic: str) -> None:
        """Warn where a camera is remapped to a topic that says another thing than the profile."""
        if is_rectified(topic) and not (camera.rectified or is_rectified(camera.topic)):
            self._warn(
                f'{camera.topic}: remapped to {topic}, which looks like undistorted images; if '
                f'they are, set rectified: true of camera {camera.name!r} in the profile'
            )

    def model(
        self,
        name: str,
        info: CameraInfo | None,
        pose: Pose | None,
        image: np.ndarray,
        end_effector_m: NDArray[np.float64] | None = None,
    ) -> PinholeCamera | None:
        """
        Make the model of a camera.

        Args:
            name: The policy's name for it.
            info: The newest CameraInfo; None if there is none.
            pose: The newest pose of the optical frame in the base frame; None if there is none.
            image: uint8 [H, W, 3], the image that the model must fit.
            end_effector_m: Position [3] of the end effector in the base frame; None: not known.
                One behind the camera is reported: then the pose of the camera is wrong.

        Returns:
            The model; None while intrinsics or pose are not known, or do not fit.
        """
        camera = self._cameras[name]
        where = camera.info_topic or f'camera {name!r}'
        if camera.intrinsics is not None:
            info, where = _camera_info(camera.intrinsics), f'intrinsics of camera {name!r}'
        if camera.extrinsics == 'fixed':
            pose = np.array(camera.pose.position_m), np.array(camera.pose.quaternion_xyzw)
        if info is None or pose is None:
            return None
        height, width = image.shape[:2]
        try:
            model = pinhole_camera(info, *pose, (width, height), camera.rectified)
        except UserError as error:
            self._report(name, f'{where}: {error}')
            return None
        if end_effector_m is None or _depth_m(model, end_effector_m) > 0:
            self._problems.pop(name, None)
        else:
            self._report(
                name,
                f'camera {name!r}: its pose has the end effector behind it; expected the pose of '
                f'{camera.optical_frame!r} in the base frame, with z forward: is it that of the '
                'housing, or the inverse?',
            )
        return model

    def refuse(self, name: str, why: str) -> None:
        """Note why there is no model of a camera."""
        self._report(name, why)

    def _report(self, name: str, text: str) -> None:
        self._problems[name] = text
        logged, logged_s = self._logged.get(name, ('', -math.inf))
        now_s = time.monotonic()
        if text != logged and now_s - logged_s > LOG_PERIOD_S:
            self._logged[name] = text, now_s
            self._warn(text)


def _depth_m(model: PinholeCamera, point_m: NDArray[np.float64]) -> float:
    return float(model.optical_from_base[2] @ [*point_m, 1.0])


def _camera_info(intrinsics: Intrinsics) -> CameraInfo:
    info = CameraInfo(width=intrinsics.width, height=intrinsics.height)
    info.k = [intrinsics.fx, 0.0, intrinsics.cx, 0.0, intrinsics.fy, intrinsics.cy, 0.0, 0.0, 1.0]
    info.p = [*info.k[:3], 0.0, *info.k[3:6], 0.0, *info.k[6:], 0.0]
    return info
