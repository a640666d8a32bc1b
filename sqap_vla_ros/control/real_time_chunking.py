"""
The control side of real-time chunking (RTC, arXiv 2506.07339): what a new chunk must agree with.

While a chunk is inferred the robot goes on with the one before. RTC lets a flow or diffusion head
inpaint: rows that will have been executed by then are frozen, later rows that both chunks cover
are pulled towards the earlier chunk, less and less.
"""

from math import ceil

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk


def frozen_rows(delay_s: float, step_s: float) -> int:
    """Rows executed during an inference, d in the paper; from the measured delay."""
    return ceil(delay_s / step_s - 1e-9)


def guidance_weights(horizon: int, frozen: int, executed: int) -> np.ndarray:
    """
    Soft mask [horizon], float64: how strongly each row is held to the previous chunk.

    Equation 5 of the paper with d = `frozen`, s = `executed`, the rows from one inference to the
    next: 1 below d, c (e^c - 1) / (e - 1) with c = (H - s - i) / (H - s - d + 1) below H - s, then
    0. Raises ValueError unless d <= s <= H - d: the inference is too slow for the chunk.
    """
    if not 0 <= frozen <= executed <= horizon - frozen:
        raise ValueError(
            f'{frozen} frozen and {executed} executed rows do not fit a chunk of '
            f'{horizon}: frozen <= executed <= horizon - frozen is needed'
        )
    row = np.arange(horizon)
    share = (horizon - executed - row) / (horizon - executed - frozen + 1)
    soft = share * np.expm1(share) / np.expm1(1.0)
    return np.where(row < frozen, 1.0, np.where(row < horizon - executed, soft, 0.0))


def previous_rows(chunk: ActionChunk, stamp_ns: int) -> np.ndarray:
    """
    Rows [horizon, actions] of the chunk in use, as seen by a chunk that begins at `stamp_ns`.

    Rows beyond its end repeat the last one; `guidance_weights` gives those weight 0.
    """
    passed = round((stamp_ns - chunk.stamp_ns) * 1e-9 / chunk.spec.step_s)
    rows = np.clip(np.arange(chunk.spec.horizon) + passed, 0, chunk.spec.horizon - 1)
    return chunk.values[rows]


def continuation(
    chunk: ActionChunk | None, stamp_ns: int, delay_s: float | None, period_s: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Give what a chunk inferred from now on is to agree with: rows and `guidance_weights`.

    chunk: the one in use. delay_s: from observation to chunk, as measured; period_s: between
    inferences. None where nothing is to be continued: no chunk, no delay measured yet, a chunk
    that has passed, or an inference too slow for the horizon.
    """
    if chunk is None or delay_s is None:
        return None
    step_s, horizon = chunk.spec.step_s, chunk.spec.horizon
    if not 0 <= (stamp_ns - chunk.stamp_ns) * 1e-9 < horizon * step_s:
        return None
    frozen = frozen_rows(delay_s, step_s)
    executed = max(frozen, round(period_s / step_s))
    if executed > horizon - frozen:
        return None
    return previous_rows(chunk, stamp_ns), guidance_weights(horizon, frozen, executed)
