"""Which action is due now, out of the chunks received so far."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec


class Offer(Enum):
    """Outcome of offering a chunk."""

    ACCEPTED = 'accepted'
    NON_FINITE = 'non-finite values'
    WRONG_SPEC = 'other columns, units or timing than expected'
    OLD_GENERATION = 'asked for before the last flush'
    OUT_OF_ORDER = 'not newer than the chunk in use'
    FUTURE = 'stamped in the future'
    EXPIRED = 'all of its rows have passed'
    NOT_RUNNING = 'nobody consented to motion'
    """Set by the controller, which offers chunks to the executor only while running."""


class Mode(str, Enum):
    """How chunks that overlap in time are combined."""

    SEQUENTIAL = 'sequential'
    """The newest chunk alone."""
    TEMPORAL_ENSEMBLE = 'temporal_ensemble'
    """Weights exp(-decay i), i = 0 the oldest: ACT, arXiv 2304.13705, section IV-A."""
    ADAPTIVE_ENSEMBLE = 'adaptive_ensemble'
    """Weights exp(alpha cos(newest, each)): CogACT, arXiv 2411.19650, adaptive action ensemble."""
    REAL_TIME_CHUNKING = 'real_time_chunking'
    """
    The newest chunk alone, inferred as a continuation of the one in use: RTC, arXiv 2506.07339.

    The executor treats it as SEQUENTIAL. control/real_time_chunking.py computes the continuation.
    """

    @property
    def continues(self) -> bool:
        """Whether each chunk is inferred as a continuation of the one in use."""
        return self is Mode.REAL_TIME_CHUNKING

    @property
    def ensembles(self) -> bool:
        """Whether a command combines the rows of several chunks."""
        return self in (Mode.TEMPORAL_ENSEMBLE, Mode.ADAPTIVE_ENSEMBLE)


@dataclass(frozen=True)
class ExecutorConfig:
    """How chunks are executed. Raises ValueError naming the field that is wrong."""

    mode: Mode = Mode.SEQUENTIAL
    interpolate: bool = True
    """
    Follow the quadratic B-spline of the rows instead of stepping from row to row.

    The spline has no corners, so the acceleration of a velocity command does not jump. It covers
    the same distance as the rows.
    """
    blend_s: float = 0.1
    """Time over which a new chunk replaces the earlier ones; shorter than the chunk interval."""
    ensemble_chunks: int = 8
    """Maximum number of chunks in an ensemble."""
    ensemble_decay: float = 0.01
    ensemble_alpha: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, 'mode', Mode(self.mode))
        for name in ('blend_s', 'ensemble_decay', 'ensemble_alpha'):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f'{name} is {value}, expected a finite number, not negative')
        if self.ensemble_chunks < 1:
            raise ValueError(f'ensemble_chunks is {self.ensemble_chunks}, expected 1 or more')


class DelayEstimator:
    """
    High percentile of the recent delays from observation to chunk.

    Real-time chunking freezes the rows that this delay covers; diagnostics show it. The first
    delays are ignored because they include warm-up.
    """

    def __init__(self, *, window: int = 50, percentile: float = 95.0, warm_up: int = 3) -> None:
        self._delays_s: deque[float] = deque(maxlen=window)
        self._percentile = percentile
        self._left_out = warm_up

    def add(self, delay_s: float) -> None:
        """Add one measured delay, seconds."""
        if self._left_out > 0:
            self._left_out -= 1
        else:
            self._delays_s.append(delay_s)

    @property
    def delay_s(self) -> float | None:
        """The percentile over the window; None until a delay after the warm-up is known."""
        return float(np.percentile(self._delays_s, self._percentile)) if self._delays_s else None


class ChunkExecutor:
    """
    Aligns chunks with time; not thread-safe.

    Row i of a chunk holds from stamp + i step to stamp + (i + 1) step. Rows that passed during
    inference and transport are skipped, not executed late. Times are nanoseconds on the clock of
    the observations.

    Args:
        config: How chunks are combined and interpolated.
        spec: What every chunk must look like; None adopts the spec of the first chunk.
    """

    def __init__(
        self, config: ExecutorConfig = ExecutorConfig(), spec: ActionSpec | None = None
    ) -> None:
        self.config = config
        self.generation = 0
        """Number of flushes; only chunks of this generation are accepted."""
        self.counts: Counter[Offer] = Counter()
        """Number of offers by outcome."""
        self.delay = DelayEstimator()
        """Delay from observation to offer, of accepted chunks."""
        self._spec = spec
        self._chunks: list[ActionChunk] = []
        self._before: list[ActionChunk] = []
        self._blend_from_ns = 0

    def offer(self, chunk: ActionChunk, now_ns: int) -> Offer:
        """
        Accept a chunk or refuse it.

        Args:
            chunk: Answer of the policy.
            now_ns: Time of the call, ns on the clock of the observations.

        Returns:
            ACCEPTED, or the reason for the refusal.
        """
        outcome = self._judge(chunk, now_ns)
        self.counts[outcome] += 1
        if outcome is Offer.ACCEPTED:
            self._spec = chunk.spec
            self.delay.add((now_ns - chunk.stamp_ns) * 1e-9)
            self._before, self._blend_from_ns = self._chunks, now_ns
            kept = self.config.ensemble_chunks if self.config.mode.ensembles else 1
            self._chunks = [*self._chunks, chunk][-kept:]
        return outcome

    def _judge(self, chunk: ActionChunk, now_ns: int) -> Offer:
        if chunk.generation != self.generation:
            return Offer.OLD_GENERATION
        if not chunk.finite:
            return Offer.NON_FINITE
        if self._spec is not None and chunk.spec != self._spec:
            return Offer.WRONG_SPEC
        if self._chunks and chunk.stamp_ns <= self._chunks[-1].stamp_ns:
            return Offer.OUT_OF_ORDER
        age_s = (now_ns - chunk.stamp_ns) * 1e-9
        if age_s < -chunk.spec.step_s:
            return Offer.FUTURE
        if age_s >= chunk.spec.horizon * chunk.spec.step_s:
            return Offer.EXPIRED
        return Offer.ACCEPTED

    def row(self, now_ns: int) -> NDArray[np.float64] | None:
        """
        Compute the action that is due now.

        Ratios (unit '1', a gripper) switch; they are neither interpolated nor blended.

        Args:
            now_ns: Time of the call, ns on the clock of the observations.

        Returns:
            float64 [actions], in the units of the spec; None if no row is due.
        """
        row = self._combined(self._chunks, now_ns)
        if row is None or not self._before:
            return row
        since_s = (now_ns - self._blend_from_ns) * 1e-9
        if not 0 <= since_s < self.config.blend_s:
            self._before = []
            return row
        before = self._combined(self._before, now_ns)
        if before is None:
            return row
        share = since_s / self.config.blend_s
        share = share * share * (3 - 2 * share)  # begins and ends without a corner
        return np.where(_ratios(self._chunks[-1].spec), row, share * row + (1 - share) * before)

    def depth(self, now_ns: int) -> int:
        """Count the rows of the newest chunk that have not passed yet."""
        if not self._chunks:
            return 0
        chunk = self._chunks[-1]
        passed = int((now_ns - chunk.stamp_ns) * 1e-9 // chunk.spec.step_s)
        return max(chunk.spec.horizon - max(passed, 0), 0)

    def flush(self) -> None:
        """Discard all chunks and start a new generation, so that pending answers are refused."""
        self.generation += 1
        self._chunks, self._before = [], []

    def _combined(self, chunks: Sequence[ActionChunk], now_ns: int) -> NDArray[np.float64] | None:
        samples = [
            row for row in (self._sample(chunk, now_ns) for chunk in chunks) if row is not None
        ]
        if len(samples) < 2:
            return samples[0] if samples else None
        rows = np.stack(samples)  # [chunks, actions], oldest first
        weights: NDArray[np.float64]
        if self.config.mode is Mode.TEMPORAL_ENSEMBLE:
            weights = np.exp(-self.config.ensemble_decay * np.arange(len(rows)))
        else:
            sizes = np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[-1])
            similarity = rows @ rows[-1] / np.maximum(sizes, 1e-12)
            weights = np.exp(self.config.ensemble_alpha * similarity)
        combined: NDArray[np.float64] = weights @ rows / weights.sum()
        return combined

    def _sample(self, chunk: ActionChunk, now_ns: int) -> NDArray[np.float64] | None:
        at = (now_ns - chunk.stamp_ns) * 1e-9 / chunk.spec.step_s  # in rows
        last = chunk.spec.horizon - 1
        # The end of a chunk is exact: rounding by a nanosecond must not execute an extra row.
        if not -1 <= at < last + 1 - 1e-9:
            return None
        index = min(max(int(at + 1e-9), 0), last)
        held: NDArray[np.float64] = chunk.values[index].astype(np.float64)
        if not self.config.interpolate:
            return held
        u = min(max(at - index, 0.0), 1.0)
        before, after = (
            chunk.values[min(max(i, 0), last)].astype(np.float64) for i in (index - 1, index + 1)
        )
        between: NDArray[np.float64] = (
            0.5 * (1 - u) ** 2 * before + (0.5 + u - u * u) * held + 0.5 * u * u * after
        )
        return np.where(_ratios(chunk.spec), held, between)


def _ratios(spec: ActionSpec) -> NDArray[np.bool_]:
    """Mask [actions] of the columns that are ratios."""
    return np.array([unit == '1' for unit in spec.units])
