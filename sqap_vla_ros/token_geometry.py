"""Where the visual tokens of a policy lie in the camera image that it was given."""

from dataclasses import dataclass

import numpy as np

FITS = SQUASH, LETTERBOX = 'squash', 'letterbox'
_TOLERANCE_PX = 1e-6
"""A strip of the image that is narrower than this comes from rounding: it shows nothing."""


@dataclass(frozen=True)
class TokenGeometry:
    """
    How preprocessing turns an image into the square that the vision encoder divides into patches.

    This is the one map between pixels of the image and tokens: preprocessing, protection of the
    robot's surroundings and overlays use it. Pixels are continuous: the first pixel covers 0 .. 1.
    """

    fit: str = SQUASH
    """'squash': both sides are scaled to the square; 'letterbox': both by the same factor, with
    bars, which show nothing, on two sides."""
    crop_area: float = 1.0
    """Share of the square's area, at its centre, that is enlarged to the whole square; the rest
    is not seen."""
    image_size: int = 0
    """Rows and columns of the square, pixels; 0: not known, then nothing is rounded to pixels."""
    patch_size: int = 0
    """Rows and columns of one patch, pixels of the square; 0: the patches cover all of it."""

    def __post_init__(self) -> None:
        """Check the values; raises ValueError."""
        if self.fit not in FITS:
            raise ValueError(f'fit is {self.fit!r}, expected one of {", ".join(FITS)}')
        if not 0 < self.crop_area <= 1:
            raise ValueError(f'crop_area is {self.crop_area}, expected more than 0, at most 1')
        if self.image_size < 0 or self.patch_size < 0 or self.patch_size > self.image_size:
            raise ValueError(
                f'image_size is {self.image_size} and patch_size {self.patch_size}, expected '
                '0 <= patch_size <= image_size'
            )

    def to_input(self, x: float, y: float, width: int, height: int) -> tuple[float, float]:
        """
        Map a pixel of the image to the square that the encoder sees.

        Args:
            x: column, pixels.
            y: row, pixels.
            width: of the image, pixels.
            height: of the image, pixels.

        Returns:
            Column and row in the square: 0 .. `image_size`, or 0 .. 1 where that is not known.
            Outside it for a pixel that was cropped away.
        """
        (columns, left), (rows, top) = self._axes(width, height)
        return x * columns / width + left, y * rows / height + top

    def edges(
        self, grid: tuple[int, int], width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Find the edges between neighbouring columns, and between neighbouring rows, of tokens.

        Args:
            grid: rows and columns of tokens.
            width: of the image, pixels.
            height: of the image, pixels.

        Returns:
            float64 [columns + 1] and [rows + 1], pixels of the image, ascending, cut off at the
            borders of the image. Two equal edges enclose tokens of which the image shows nothing.
        """
        size = float(self.image_size or 1)
        ends = []
        for count, length, (span, start) in zip(
            reversed(grid), (width, height), self._axes(width, height)
        ):
            inside = np.arange(count + 1) * (self.patch_size or size / count)
            found = np.clip((inside - start) * length / span, 0, length)
            found[found < _TOLERANCE_PX] = 0
            found[found > length - _TOLERANCE_PX] = length
            ends.append(found)
        return ends[0], ends[1]

    def rectangles(self, grid: tuple[int, int], width: int, height: int) -> np.ndarray:
        """
        Find the part of the image that each token shows.

        Args:
            grid: rows and columns of tokens.
            width: of the image, pixels.
            height: of the image, pixels.

        Returns:
            float64 [rows * columns, 4], row-major: left, top, right and bottom, pixels of the
            image. The area is 0 for a token that lies in a bar.
        """
        x, y = self.edges(grid, width, height)
        rows, columns = grid
        found = np.empty((rows, columns, 4))
        found[..., 0], found[..., 2] = x[None, :-1], x[None, 1:]
        found[..., 1], found[..., 3] = y[:-1, None], y[1:, None]
        return found.reshape(-1, 4)

    def _axes(self, width: int, height: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Length of the image and its start in the input, along columns and along rows."""
        size, zoom = float(self.image_size or 1), self.crop_area**-0.5
        rows, columns, top, left = (
            fit_letterbox(width, height, self.image_size)
            if self.fit == LETTERBOX
            else (size, size, 0.0, 0.0)
        )
        middle = size / 2
        return (
            (zoom * columns, zoom * (left - middle) + middle),
            (zoom * rows, zoom * (top - middle) + middle),
        )


def fit_letterbox(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """
    Place an image in a square, as large as it fits without distortion, centred.

    Rounds to whole pixels as openpi and lerobot do.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        size: rows and columns of the square, pixels; 0: the square has the side 1, and nothing
            is rounded.

    Returns:
        Rows and columns of the scaled image, and the rows above and the columns left of it; whole
        numbers unless `size` is 0.
    """
    if not size:
        longer = max(width, height)
        rows, columns = height / longer, width / longer
        return rows, columns, (1 - rows) / 2, (1 - columns) / 2
    ratio = max(width / size, height / size)
    rows, columns = max(int(height / ratio), 1), max(int(width / ratio), 1)
    return rows, columns, (size - rows) // 2, (size - columns) // 2
