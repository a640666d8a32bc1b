"""Success rates with their uncertainty."""

from math import comb, sqrt


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """
    95 % score interval of a proportion (Wilson 1927), as two numbers in [0, 1].

    Unlike the normal approximation it is usable at 0 and at 100 %.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    denominator = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / denominator
    margin = z / denominator * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """
    Two-sided p value of the exact McNemar test.

    For variants that ran the same seeds: how often only the first, and only the second succeeded.
    """
    total = only_first + only_second
    if total == 0:
        return 1.0
    tail = sum(comb(total, k) for k in range(min(only_first, only_second) + 1)) / 2**total
    return min(1.0, 2 * tail)


def holm(p_values: list[float]) -> list[float]:
    """
    P values corrected for their number (Holm 1979), in the order given.

    The smallest counts as often as there are tests, the next once less, and none below the ones
    before it.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def percent(successes: int, trials: int) -> str:
    """'86 % [74-93]': share and Wilson interval."""
    low, high = wilson_interval(successes, trials)
    return f'{100 * successes / max(trials, 1):.0f} % [{100 * low:.0f}-{100 * high:.0f}]'


def paired_difference(
    only_first: int, only_second: int, pairs: int, z: float = 1.96
) -> tuple[float, float, float]:
    """
    Difference of two paired proportions, and its 95 % interval.

    Agresti and Min (2005): half a pair is added to each of the four cells, which keeps the
    interval honest when few pairs differ.
    """
    if pairs == 0:
        return 0.0, -1.0, 1.0
    first, second, total = only_first + 0.5, only_second + 0.5, pairs + 2
    centre = (first - second) / total
    margin = z * sqrt(first + second - (first - second) ** 2 / total) / total
    return (only_first - only_second) / pairs, centre - margin, centre + margin
