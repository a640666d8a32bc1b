"""
Real-time chunking (RTC, arXiv 2506.07339), control side: what a new chunk must agree with.

The robot keeps executing the chunk in use while the next one is inferred. RTC lets a flow or
diffusion head inpaint the new chunk: rows that will have been executed by the time it arrives are
frozen, and later rows that both chunks cover are pulled towards the chunk in use with decreasing
weight. The policy side, which applies the weights in each denoising step, is
models/layers/guidance.py. `Mode.REAL_TIME_CHUNKING` selects it.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.control.chunk_executor import Mode
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import Continuation


def execution_mode(name: str, policy_continues: bool) -> Mode:
    """
    Look up an execution mode and check that the policy supports it.

    Args:
        name: Value of a `Mode`.
        policy_continues: `PolicySpec.continues`: whether the policy heeds a continuation.

    Returns:
        The mode.

    Raises:
        UserError: `name` is not a mode, or the mode needs a policy that can continue a chunk.
    """
    names = [mode.value for mode in Mode]
    if name not in names:
        raise UserError(f'execution_mode is {name!r}, expected one of {", ".join(names)}')
    mode = Mode(name)
    if mode.continues and not policy_continues:
        others = ', '.join(other.value for other in Mode if not other.continues)
        raise UserError(
            f'execution_mode is {name!r}, which needs a policy with a diffusion or flow head; '
            f'use one of {others}'
        )
    return mode


def frozen_rows(delay_s: float, step_s: float) -> int:
    """
    Count the rows that are executed during one inference, d in the paper.

    Args:
        delay_s: Measured delay from observation to chunk, seconds.
        step_s: Duration of a row, seconds.

    Returns:
        The number of rows, rounded up.
    """
    return ceil(delay_s / step_s - 1e-9)


def guidance_weights(horizon: int, frozen: int, executed: int) -> NDArray[np.float64]:
    """
    Compute the soft mask: how strongly each row is held to the chunk in use.

    Equation 5 of the paper with d = `frozen` and s = `executed`: 1 for i < d,
    c (e^c - 1) / (e - 1) with c = (H - s - i) / (H - s - d + 1) for i < H - s, then 0.

    Args:
        horizon: Rows of a chunk, H.
        frozen: Rows executed during an inference, d.
        executed: Rows from one inference to the next, s.

    Returns:
        float64 [horizon], 1: the row is fixed, 0: it is free.

    Raises:
        ValueError: Unless d <= s <= H - d; the inference is too slow for the chunk.
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


def previous_rows(chunk: ActionChunk, stamp_ns: int) -> NDArray[np.float32]:
    """
    Shift the rows of the chunk in use to a chunk that begins later.

    Args:
        chunk: The chunk in use.
        stamp_ns: Stamp of the new chunk's observation, ns.

    Returns:
        float32 [horizon, actions], in the units of the spec. Rows beyond the end of the chunk
        repeat its last one; `guidance_weights` gives those weight 0.
    """
    passed = round((stamp_ns - chunk.stamp_ns) * 1e-9 / chunk.spec.step_s)
    rows = np.clip(np.arange(chunk.spec.horizon) + passed, 0, chunk.spec.horizon - 1)
    shifted: NDArray[np.float32] = chunk.values[rows]
    return shifted


def continuation(
    chunk: ActionChunk | None, stamp_ns: int, delay_s: float | None, period_s: float
) -> Continuation | None:
    """
    Compute what a chunk whose inference begins now has to agree with.

    Args:
        chunk: The chunk in use; None if there is none.
        stamp_ns: Stamp of the new observation, ns.
        delay_s: Measured delay from observation to chunk, seconds; None if not measured yet.
        period_s: Time between inferences, seconds.

    Returns:
        Rows and weights. None if there is nothing to continue: no chunk, no measured delay, a
        chunk that has passed, or an inference too slow for the horizon.
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
    return Continuation(
        previous_rows(chunk, stamp_ns), guidance_weights(horizon, frozen, executed)
    )
