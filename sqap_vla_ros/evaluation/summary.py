"""Summarises episodes: success, paired comparisons, smoothness, latency."""

from itertools import groupby

import numpy as np

from sqap_vla_ros.evaluation.proportions import (
    mcnemar_exact,
    paired_difference,
    percent,
    wilson_interval,
)

REFERENCES = ('full', 'naive', 'random', 'attention')
"""Variants that others are compared with, by name or by the first part of it."""


def summarise(episodes: list[dict]) -> list[dict]:
    """Summarise each variant in a dict: success, Wilson interval, tasks, comparisons, medians."""
    by_variant = {
        name: list(group)
        for name, group in groupby(
            sorted(episodes, key=lambda e: e['variant']), key=lambda e: e['variant']
        )
    }
    return [_summary(name, own, by_variant) for name, own in by_variant.items()]


def _summary(name: str, own: list[dict], by_variant: dict[str, list[dict]]) -> dict:
    tasks: dict[str, list[bool]] = {}
    for episode in own:
        tasks.setdefault(episode['task'], []).append(episode['succeeded'])
    successes = sum(e['succeeded'] for e in own)
    low, high = wilson_interval(successes, len(own))
    times = [e['duration_s'] for e in own if e['succeeded']]
    return {
        'variant': name,
        'success': successes / len(own),
        'wilson_95': [low, high],
        'episodes': len(own),
        'tasks': {
            task: {
                'success': sum(outcomes) / len(outcomes),
                'episodes': len(outcomes),
                'wilson_95': list(wilson_interval(sum(outcomes), len(outcomes))),
            }
            for task, outcomes in tasks.items()
        },
        'wrong': sum(e['wrong'] for e in own) / len(own),
        'median_time_to_success_s': float(np.median(times)) if times else None,
        'mean_squared_jerk_m2_s6': float(np.mean([e['jerk_m_s3'] ** 2 for e in own])),
        'median_tokens_kept': float(np.median([e['tokens_kept'] for e in own])),
        'median_latency_ms': _latencies(own),
        'weight_bytes': own[0].get('weight_bytes'),
        'against': {
            other: compare(own, by_variant[other])
            for other in by_variant
            if other != name and other.split('_')[0] in REFERENCES
        },
    }


def _latencies(episodes: list[dict]) -> dict[str, float]:
    stages = episodes[0].get('latency_ms', {})
    return {
        stage: float(np.median([e['latency_ms'][stage] for e in episodes])) for stage in stages
    }


def compare(first: list[dict], second: list[dict]) -> dict:
    """Compare two variants on the episodes (task, seed) both ran; difference = first - second."""
    other = {(e['task'], e['seed']): e['succeeded'] for e in second}
    pairs = [
        (e['succeeded'], other[e['task'], e['seed']])
        for e in first
        if (e['task'], e['seed']) in other
    ]
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    difference, low, high = paired_difference(only_first, only_second, len(pairs))
    return {
        'pairs': len(pairs),
        'only_this': only_first,
        'only_other': only_second,
        'difference': difference,
        'difference_95': [low, high],
        'mcnemar_p': mcnemar_exact(only_first, only_second),
    }


def table(summaries: list[dict]) -> str:
    """Format as plain text: one row per variant, one column per task."""
    tasks = list(dict.fromkeys(task for s in summaries for task in s['tasks']))
    rows = [['', *tasks, 'all']]
    for summary in summaries:
        cells = []
        for task in tasks:
            part = summary['tasks'].get(task)
            cells.append(
                ''
                if part is None
                else percent(round(part['success'] * part['episodes']), part['episodes'])
            )
        total = percent(round(summary['success'] * summary['episodes']), summary['episodes'])
        rows.append([summary['variant'], *cells, total])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
