"""Camera with a known pose: projects points of the base frame into the image."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

EQUIDISTANT = 'equidistant'
DISTORTIONS = {'plumb_bob': 5, 'rational_polynomial': 8, EQUIDISTANT: 4}
"""Distortion models of sensor_msgs, and how many coefficients they have."""
_SAMPLES = 32
"""Radii at which a distortion is checked to grow."""


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics and extrinsics of one camera."""

    intrinsics: np.ndarray
    """float64 [3, 3], pixels of the image, as `CameraInfo.k`."""
    optical_from_base: np.ndarray
    """float64 [4, 4], metres: base frame to optical (REP 103: x right, y down, z forward)."""
    width: int
    """Columns of the image, pixels."""
    height: int
    """Rows of the image, pixels."""
    distortion_model: str = ''
    """One of `DISTORTIONS`; empty: the image is not distorted."""
    distortion: tuple[float, ...] = ()
    """Coefficients of the model, as `CameraInfo.d`; those that are missing are 0."""

    def project(self, point_m: np.ndarray) -> tuple[float, float, float] | None:
        """
        Project a point into the image.

        Args:
            point_m: [3], base frame, metres.

        Returns:
            Pixel column, pixel row and depth in metres; the pixel may lie outside the image.
            None where the point is not in front of the camera or is not finite, or so far aside
            that the distortion model does not hold.
        """
        x, y, z = (self.optical_from_base @ np.append(np.asarray(point_m, np.float64), 1.0))[:3]
        if not np.isfinite([x, y, z]).all() or z <= 1e-6:
            return None
        distorted = self._distort(x / z, y / z)
        if distorted is None:
            return None
        column, row = (self.intrinsics @ [*distorted, 1.0])[:2]
        return float(column), float(row), float(z)

    def as_plain_data(self) -> dict[str, Any]:
        """Return the fields as lists and numbers, for JSON; see `from_plain_data`."""
        return {
            **asdict(self),
            'intrinsics': self.intrinsics.tolist(),
            'optical_from_base': self.optical_from_base.tolist(),
        }

    @classmethod
    def from_plain_data(cls, data: dict[str, Any]) -> 'PinholeCamera':
        """Make the camera of `as_plain_data`."""
        arrays = {name: np.array(data[name]) for name in ('intrinsics', 'optical_from_base')}
        distortion = tuple(data.get('distortion', ()))
        return cls(**{**data, **arrays, 'distortion': distortion})

    def _distort(self, x: float, y: float) -> tuple[float, float] | None:
        """Apply the lens distortion to a direction x / z, y / z."""
        if not any(self.distortion):
            return x, y
        count = DISTORTIONS[self.distortion_model]
        d = np.zeros(8)
        d[: len(self.distortion)] = self.distortion[:count]
        radius = float(np.hypot(x, y))
        # Far outside the image the polynomials turn back, and would show a point that is not seen.
        reach = np.linspace(0.0, radius, _SAMPLES)
        if self.distortion_model == EQUIDISTANT:
            angle = np.arctan(reach)
            bent = angle * (1 + _polynomial(list(d[:4]), angle**2))
        else:
            bent = reach * _ratio(d, reach**2)
        if radius > 0 and not (np.diff(bent) > 0).all():
            return None
        scale = float(bent[-1]) / radius if radius > 0 else 1.0
        if self.distortion_model == EQUIDISTANT:
            return x * scale, y * scale
        square, (p1, p2) = radius**2, d[2:4]
        return (
            x * scale + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * scale + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        )


def _polynomial(coefficients: Sequence[float], t: np.ndarray) -> np.ndarray:
    """c0 t + c1 t^2 + ..."""
    value: np.ndarray = np.polyval([*reversed(coefficients), 0.0], t)
    return value


def _ratio(d: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Radial factor of plumb_bob and rational_polynomial: k1 k2 p1 p2 k3 k4 k5 k6."""
    above = 1 + _polynomial([d[0], d[1], d[4]], square)
    ratio: np.ndarray = above / (1 + _polynomial(list(d[5:8]), square))
    return ratio
