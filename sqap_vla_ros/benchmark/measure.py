"""Interleaved rounds: every variant once a round, so that all see the same machine."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.benchmark.paired import paired_ratio, Ratio, summarize, Summary
from sqap_vla_ros.benchmark.workloads import WARM_UP, Workload


@dataclass(frozen=True)
class Measurement:
    """One variant's times over all rounds, milliseconds."""

    workload: Workload
    rounds: dict[str, np.ndarray]
    """Stage to [rounds]; 'total' is the whole inference."""

    @property
    def total(self) -> Summary:
        """Median and interval of the whole inference."""
        return summarize(self.rounds['total'])

    def ratio(self, baseline: 'Measurement', stage: str = 'total') -> Ratio:
        """How many times faster than the baseline, round by round."""
        return paired_ratio(baseline.rounds[stage], self.rounds[stage])


def measure(
    workloads: list[Workload], rounds: int, progress: Callable[[Iterable], Iterable] = iter
) -> list[Measurement]:
    """
    Run all workloads in turn, `rounds` times; the order turns by one each round.

    progress: wraps the rounds, as `tqdm` does.
    """
    for workload in workloads:
        for _ in range(WARM_UP):
            workload.run()
    times: list[list[dict[str, float]]] = [[] for _ in workloads]
    for turn in progress(range(rounds)):
        for i in range(len(workloads)):
            index = (turn + i) % len(workloads)
            times[index].append(workloads[index].run())
    return [
        Measurement(workload, {stage: np.array([t[stage] for t in found]) for stage in found[0]})
        for workload, found in zip(workloads, times)
    ]
