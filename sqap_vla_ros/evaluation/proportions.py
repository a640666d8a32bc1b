"""Success rates: intervals, paired tests, and correction for several tests."""

from math import sqrt

from scipy.stats import binomtest


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """
    Compute the 95 % score interval of a proportion (Wilson 1927).

    Unlike the normal approximation, it is usable at 0 and at 100 %.

    Returns:
        Lower and upper end, in [0, 1]; the whole range when there are no trials.
    """
    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(successes, trials).proportion_ci(0.95, method='wilson')
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """
    Compute the two-sided p value of the exact McNemar test, for variants run on the same seeds.

    It is the binomial test of the pairs that differ, with a probability of one half.

    Args:
        only_first: pairs of which only the first variant succeeded.
        only_second: pairs of which only the second variant succeeded.
    """
    total = only_first + only_second
    return 1.0 if total == 0 else float(binomtest(only_first, total, 0.5).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """
    Correct p values for multiple tests (Holm 1979).

    The smallest is multiplied by the number of tests, the next by one less, and so on; none may
    fall below a smaller one.

    Returns:
        Corrected p values, in the order given.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def percent(successes: int, trials: int) -> str:
    """Format a share with its Wilson interval: '86 % [74-93]'."""
    low, high = wilson_interval(successes, trials)
    return f'{100 * successes / max(trials, 1):.0f} % [{100 * low:.0f}-{100 * high:.0f}]'


def paired_difference(
    only_first: int, only_second: int, pairs: int, z: float = 1.96
) -> tuple[float, float, float]:
    """
    Compute the difference of two paired proportions, and its 95 % interval.

    Agresti and Min (2005): half a pair is added to each of the four cells, which keeps the
    coverage of the interval when few pairs differ.

    Args:
        only_first: pairs of which only the first variant succeeded.
        only_second: pairs of which only the second variant succeeded.
        pairs: all pairs.
        z: normal quantile of the interval.

    Returns:
        Difference first - second, and the lower and upper end of its interval.
    """
    if pairs == 0:
        return 0.0, -1.0, 1.0
    first, second, total = only_first + 0.5, only_second + 0.5, pairs + 2
    centre = (first - second) / total
    margin = z * sqrt(first + second - (first - second) ** 2 / total) / total
    return (only_first - only_second) / pairs, centre - margin, centre + margin
