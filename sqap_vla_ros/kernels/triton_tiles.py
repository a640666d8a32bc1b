"""
Tile shapes that are tried for the Triton kernels, by compute capability and number of rows.

They are candidates, not results: a backend times them for each shape on the device at hand and
keeps the fastest (`compression.backends.triton_backend`). Made from what the architectures offer
(arithmetic and shared memory per SM), without having been measured on each.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class MatmulConfig:
    """One way to run the matrix product."""

    block_m: int
    """Rows of activations a program."""
    block_n: int
    """Outputs a program."""
    block_k: int
    """Inputs a step."""
    warps: int
    stages: int
    """Loads in flight."""
    weights_first: bool = True
    """Weights as the left operand (see `triton_matmul`)."""


# Up to 16 rows the weights' bandwidth decides: narrow tiles, so that every SM has some, deep
# pipelines. (rows up to, candidates)
_ORIN = (
    # sm_87: 16 SMs of 163 kB shared memory; int8 at 137 TOPS dense, 205 GB/s.
    (
        16,
        (
            MatmulConfig(16, 64, 256, 4, 4),
            MatmulConfig(16, 32, 256, 4, 5),
            MatmulConfig(16, 128, 128, 4, 4),
        ),
    ),
    (
        64,
        (
            MatmulConfig(64, 64, 128, 4, 4),
            MatmulConfig(32, 64, 128, 4, 4),
            MatmulConfig(64, 128, 128, 4, 3),
        ),
    ),
    (
        192,
        (
            MatmulConfig(64, 128, 128, 4, 4),
            MatmulConfig(64, 64, 128, 4, 4),
            MatmulConfig(64, 128, 128, 4, 3, False),
        ),
    ),
    (
        None,
        (
            MatmulConfig(64, 128, 128, 4, 4),
            MatmulConfig(128, 128, 128, 8, 3),
            MatmulConfig(64, 128, 128, 4, 3, False),
        ),
    ),
)
_AMPERE = (
    # sm_80: 108 SMs, 163 kB.
    (16, (MatmulConfig(16, 32, 256, 4, 5), MatmulConfig(16, 64, 256, 4, 4))),
    (64, (MatmulConfig(32, 64, 128, 4, 4), MatmulConfig(64, 64, 128, 4, 4))),
    (
        None,
        (
            MatmulConfig(64, 128, 128, 4, 4),
            MatmulConfig(64, 64, 128, 4, 4),
            MatmulConfig(128, 128, 128, 8, 3),
        ),
    ),
)
_CONSUMER = (
    # sm_86, 89 and 120: 99 kB of shared memory.
    (16, (MatmulConfig(16, 32, 256, 4, 4), MatmulConfig(16, 64, 256, 4, 3))),
    (64, (MatmulConfig(32, 64, 128, 4, 4), MatmulConfig(64, 64, 128, 4, 3))),
    (
        None,
        (
            MatmulConfig(64, 128, 128, 4, 3),
            MatmulConfig(64, 64, 128, 4, 4),
            MatmulConfig(64, 128, 128, 4, 3, False),
        ),
    ),
)
_HOPPER = (
    # sm_90 and 100: wgmma tiles have 64 outputs and more on the left.
    (16, (MatmulConfig(16, 64, 256, 4, 5), MatmulConfig(16, 64, 128, 4, 5))),
    (64, (MatmulConfig(64, 64, 128, 4, 4), MatmulConfig(32, 64, 256, 4, 4))),
    (
        None,
        (
            MatmulConfig(64, 128, 128, 4, 4),
            MatmulConfig(64, 128, 256, 4, 3),
            MatmulConfig(128, 128, 128, 8, 3),
        ),
    ),
)
_BY_CAPABILITY = {
    80: _AMPERE,
    86: _CONSUMER,
    87: _ORIN,
    89: _CONSUMER,
    90: _HOPPER,
    100: _HOPPER,
    120: _CONSUMER,
}
CAPABILITIES = tuple(_BY_CAPABILITY)
"""Compute capabilities with a table of their own, 10 * major + minor."""


def candidates(capability: int, rows: int) -> tuple[MatmulConfig, ...]:
    """
    List configurations to try for this many rows, most promising first.

    A capability without a table takes that of the nearest older one; 80 at least.
    """
    known = max(c for c in CAPABILITIES if c <= max(capability, 80))
    for most, configs in _BY_CAPABILITY[known]:
        if most is None or rows <= most:
            return configs
    raise AssertionError('the last entry of a table has no limit')


def row_bucket(rows: int) -> int:
    """Rows rounded up to a size that choices are remembered for: powers of two, steps of 64."""
    if rows <= 64:
        return max(16, 1 << (rows - 1).bit_length())
    return -(-rows // 64) * 64
