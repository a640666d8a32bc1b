"""Robot-aware protection: which patches show the surroundings of the end effector."""

import numpy as np

from sqap_vla_ros.camera import PinholeCamera


def patch_distances_m(
    camera: PinholeCamera | None, point_m: np.ndarray | None, grid: tuple[int, int]
) -> np.ndarray:
    """
    Distance of every patch to a projected point, in the image plane at the point's depth.

    camera: None where its place is not known; point_m: [3], base frame, or None; grid: rows and
    columns of patches that the whole image divides into. A patch is as near as its nearest
    pixel: 0 for the patch that shows the point. Returns float64 [rows * columns], metres; all
    infinite where the point is behind the camera, outside the image or unknown.
    """
    rows, columns = grid
    known = camera is not None and point_m is not None and np.isfinite(point_m).all()
    pixel = camera.project(point_m) if known else None
    if pixel is None or not (0 <= pixel[0] < camera.width and 0 <= pixel[1] < camera.height):
        return np.full(rows * columns, np.inf)
    column_px, row_px, depth_m = pixel
    across_px = _outside(column_px, np.linspace(0, camera.width, columns + 1))
    down_px = _outside(row_px, np.linspace(0, camera.height, rows + 1))
    k = camera.intrinsics
    return np.hypot(
        down_px[:, None] * depth_m / k[1, 1], across_px[None] * depth_m / k[0, 0]
    ).ravel()


def _outside(position, edges):
    """How far a position is from each interval between neighbouring edges; 0 inside it."""
    return np.maximum(0, np.maximum(edges[:-1] - position, position - edges[1:]))
