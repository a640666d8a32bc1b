"""Pinhole camera with a known pose: projects points of the base frame into the image."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics and extrinsics of one camera. Lens distortion is not modelled."""

    intrinsics: np.ndarray
    """float64 [3, 3], pixels, as `CameraInfo.k`."""
    optical_from_base: np.ndarray
    """float64 [4, 4], metres: base frame to optical (REP 103: x right, y down, z forward)."""
    width: int
    height: int

    def project(self, point_m: np.ndarray) -> tuple[float, float, float] | None:
        """
        Project a point into the image.

        Args:
            point_m: [3], base frame, metres.

        Returns:
            Pixel column, pixel row and depth in metres; the pixel may lie outside the image.
            None where the point is not in front of the camera or is not finite.
        """
        x, y, z = (self.optical_from_base @ np.append(np.asarray(point_m, np.float64), 1.0))[:3]
        if not np.isfinite([x, y, z]).all() or z <= 1e-6:
            return None
        k = self.intrinsics
        return float(k[0, 0] * x / z + k[0, 2]), float(k[1, 1] * y / z + k[1, 2]), float(z)
