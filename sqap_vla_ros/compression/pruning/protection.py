"""Robot-aware protection: which patches show the surroundings of the end effector."""

import numpy as np

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.token_geometry import TokenGeometry

_TOUCHING_PX = 1e-9
"""Distance of a position from an interval that ends there."""


def patch_distances_m(
    camera: PinholeCamera | None,
    point_m: np.ndarray | None,
    grid: tuple[int, int],
    geometry: TokenGeometry = TokenGeometry(),
) -> np.ndarray:
    """
    Distance of every patch to a projected point, in the image plane at the depth of the point.

    The distance of a patch is that of the nearest pixel that it shows: 0 for the patch that shows
    the point, infinite for a patch that shows nothing of the image (a bar of a letterbox).

    Args:
        camera: None if its pose is not known. Its width and height are those of the image.
        point_m: [3], base frame, metres; None if not known.
        grid: rows and columns of patches.
        geometry: where the patches lie in the image; by default they divide the whole image.

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
    edges_x, edges_y = geometry.edges(grid, camera.width, camera.height)
    across_px, down_px = _outside(column_px, edges_x), _outside(row_px, edges_y)
    k = camera.intrinsics
    distances: np.ndarray = np.hypot(
        down_px[:, None] * depth_m / k[1, 1], across_px[None] * depth_m / k[0, 0]
    )
    return distances.ravel()


def _outside(position: float, edges: np.ndarray) -> np.ndarray:
    """
    Distance of a position from each interval between neighbouring edges.

    It is 0 in the interval, whose end belongs to the next one, and infinite if it is empty.
    """
    before, behind = edges[:-1] - position, position - edges[1:]
    behind = np.where(behind >= 0, np.maximum(behind, _TOUCHING_PX), behind)
    distance = np.maximum(0, np.maximum(before, behind))
    return np.where(edges[1:] > edges[:-1], distance, np.inf)
