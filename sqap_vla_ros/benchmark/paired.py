"""Medians, intervals and paired ratios of repeated measurements."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

CONFIDENCE = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Repeated times of one thing."""

    median: float
    low: float
    high: float
    """Bootstrap interval of the median."""


@dataclass(frozen=True)
class Ratio:
    """How many times faster something ran than a baseline, round by round."""

    value: float
    """Median of the rounds' ratios."""
    low: float
    high: float
    """Bootstrap interval of the median."""
    spread: float
    """Interquartile range of the rounds' ratios."""

    @property
    def resolved(self) -> bool:
        """Whether the difference from 1 is larger than the spread; otherwise it is not printed."""
        return abs(self.value - 1) > self.spread


def summarize(times: np.ndarray) -> Summary:
    """Median of times [rounds] and its bootstrap interval."""
    times = np.asarray(times, np.float64)
    return Summary(float(np.median(times)), *_interval(times))


def paired_ratio(baseline: np.ndarray, times: np.ndarray) -> Ratio:
    """Compare times [rounds] of two things that were measured in turn in the same rounds."""
    ratios = np.asarray(baseline, np.float64) / np.asarray(times, np.float64)
    low, high = np.quantile(ratios, (0.25, 0.75))
    return Ratio(float(np.median(ratios)), *_interval(ratios), float(high - low))


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of the median of [rounds]; the same at every call."""
    if len(values) < 2:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.median,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method='percentile',
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
