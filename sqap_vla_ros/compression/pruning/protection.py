"""Robot-aware protection: which patches show the surroundings of the end effector."""

import numpy as np

from sqap_vla_ros.camera import PinholeCamera


def patch_distances_m(
    camera: PinholeCamera | None, point_m: np.ndarray | None, grid: tuple[int, int]
) -> np.ndarray:
    """
    Distance of every patch to a projected point, in the image plane at the depth of the point.

    The distance of a patch is that of its nearest pixel: 0 for the patch that shows the point.

    Args:
        camera: None if its pose is not known.
        point_m: [3], base frame, metres; None if not known.
        grid: rows and columns of patches that divide the whole image.

    Returns:
        float64 [rows * columns], metres. All infinite if the point is behind the camera, outside
        the image or not known.
    """
    rows, columns = grid
    nowhere = np.full(rows * columns, np.inf)
    if camera is None or point_m is None or not np.isfinite(point_m).all():
        return nowhere
    pixel = camera.project(point_m)
    if pixel is None or not (0 <= pixel[0] < camera.width and 0 <= pixel[1] < camera.height):
        return nowhere
    column_px, row_px, depth_m = pixel
    across_px = _outside(column_px, np.linspace(0, camera.width, columns + 1))
    down_px = _outside(row_px, np.linspace(0, camera.height, rows + 1))
    k = camera.intrinsics
    distances: np.ndarray = np.hypot(
        down_px[:, None] * depth_m / k[1, 1], across_px[None] * depth_m / k[0, 0]
    )
    return distances.ravel()


def _outside(position: float, edges: np.ndarray) -> np.ndarray:
    """Distance of a position from each interval between neighbouring edges; 0 inside it."""
    distance: np.ndarray = np.maximum(0, np.maximum(edges[:-1] - position, position - edges[1:]))
    return distance
