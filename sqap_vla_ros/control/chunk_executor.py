"""Which action is due now, out of the chunks that came so far."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.delay import DelayEstimator


class Offer(Enum):
    """What became of an offered chunk."""

    ACCEPTED = 'accepted'
    NON_FINITE = 'non-finite values'
    WRONG_SPEC = 'other columns, units or timing than expected'
    OLD_GENERATION = 'asked for before the last flush'
    OUT_OF_ORDER = 'not newer than the chunk in use'
    FUTURE = 'stamped in the future'
    EXPIRED = 'all of its rows have passed'
    NOT_RUNNING = 'nobody consented to motion'
    """Given by the controller, which offers chunks to the executor only while running."""


class Mode(str, Enum):
    """How chunks that overlap in time are combined."""

    SEQUENTIAL = 'sequential'
    """The newest chunk alone."""
    TEMPORAL_ENSEMBLE = 'temporal_ensemble'
    """Weights exp(-decay i), i = 0 the oldest: ACT, arXiv 2304.13705, section IV-A."""
    ADAPTIVE_ENSEMBLE = 'adaptive_ensemble'
    """Weights exp(alpha cos(newest, each)): CogACT, arXiv 2411.19650, adaptive action ensemble."""


@dataclass(frozen=True)
class ExecutorConfig:
    """How chunks are executed. Raises ValueError naming the field that is wrong."""

    mode: Mode = Mode.SEQUENTIAL
    interpolate: bool = True
    """
    Go from row to row along their quadratic B-spline, rather than in steps.

    It has no corners, so that a velocity's acceleration does not jump, and covers the distance of
    the rows.
    """
    blend_s: float = 0.1
    """Time over which a new chunk takes over from the ones before; less than between chunks."""
    ensemble_chunks: int = 8
    """Chunks that an ensemble combines at most."""
    ensemble_decay: float = 0.01
    ensemble_alpha: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, 'mode', Mode(self.mode))
        for name in ('blend_s', 'ensemble_decay', 'ensemble_alpha'):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f'{name} is {value}, expected a finite number, not negative')
        if self.ensemble_chunks < 1:
            raise ValueError(f'ensemble_chunks is {self.ensemble_chunks}, expected 1 or more')


class ChunkExecutor:
    """
    Aligns chunks with time; one thread at a time.

    Row i of a chunk holds from stamp + i step to stamp + (i + 1) step, so that what inference and
    transport took is skipped, not executed late. `spec`: what chunks must look like; None takes
    the first chunk's. Times are nanoseconds on the observations' clock.
    """

    def __init__(
        self, config: ExecutorConfig = ExecutorConfig(), spec: ActionSpec | None = None
    ) -> None:
        self.config = config
        self.generation = 0
        """Number of flushes; only chunks that carry it are accepted."""
        self.counts: Counter[Offer] = Counter()
        """Offers so far, by what became of them."""
        self.delay = DelayEstimator()
        """From observation to offer, of accepted chunks."""
        self._spec = spec
        self._chunks: list[ActionChunk] = []
        self._before: list[ActionChunk] = []
        self._blend_from_ns = 0

    def offer(self, chunk: ActionChunk, now_ns: int) -> Offer:
        """Take in a chunk, or say why not."""
        outcome = self._judge(chunk, now_ns)
        self.counts[outcome] += 1
        if outcome is Offer.ACCEPTED:
            self._spec = chunk.spec
            self.delay.add((now_ns - chunk.stamp_ns) * 1e-9)
            self._before, self._blend_from_ns = self._chunks, now_ns
            kept = 1 if self.config.mode is Mode.SEQUENTIAL else self.config.ensemble_chunks
            self._chunks = [*self._chunks, chunk][-kept:]
        return outcome

    def _judge(self, chunk, now_ns):
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

    def row(self, now_ns: int) -> np.ndarray | None:
        """
        Give the action [actions] due now, in the spec's units; None when there is none.

        Ratios (unit '1', a gripper) are neither interpolated nor blended: they switch.
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
        return np.where(self._ratios(), row, share * row + (1 - share) * before)

    def depth(self, now_ns: int) -> int:
        """Rows of the newest chunk that have not passed yet."""
        if not self._chunks:
            return 0
        chunk = self._chunks[-1]
        passed = int((now_ns - chunk.stamp_ns) * 1e-9 // chunk.spec.step_s)
        return max(chunk.spec.horizon - max(passed, 0), 0)

    def flush(self) -> None:
        """Forget all chunks and begin a generation: what is being inferred now comes too late."""
        self.generation += 1
        self._chunks, self._before = [], []

    def _combined(self, chunks, now_ns):
        rows = [
            row for row in (self._sample(chunk, now_ns) for chunk in chunks) if row is not None
        ]
        if len(rows) < 2:
            return rows[0] if rows else None
        rows = np.stack(rows)  # [chunks, actions], oldest first
        if self.config.mode is Mode.TEMPORAL_ENSEMBLE:
            weights = np.exp(-self.config.ensemble_decay * np.arange(len(rows)))
        else:
            sizes = np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[-1])
            similarity = rows @ rows[-1] / np.maximum(sizes, 1e-12)
            weights = np.exp(self.config.ensemble_alpha * similarity)
        return weights @ rows / weights.sum()

    def _sample(self, chunk, now_ns):
        at = (now_ns - chunk.stamp_ns) * 1e-9 / chunk.spec.step_s  # in rows
        last = chunk.spec.horizon - 1
        # A chunk's own end is exact: a nanosecond of rounding must not execute a row too many.
        if not -1 <= at < last + 1 - 1e-9:
            return None
        index = min(max(int(at + 1e-9), 0), last)
        held = chunk.values[index].astype(np.float64)
        if not self.config.interpolate:
            return held
        u = min(max(at - index, 0.0), 1.0)
        before, after = (
            chunk.values[min(max(i, 0), last)].astype(np.float64) for i in (index - 1, index + 1)
        )
        between = 0.5 * (1 - u) ** 2 * before + (0.5 + u - u * u) * held + 0.5 * u * u * after
        return np.where(self._ratios(), held, between)

    def _ratios(self):
        return np.array([unit == '1' for unit in self._spec.units])
