"""The result of a benchmark: a table, JSON and a plot."""

from dataclasses import asdict
import json
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.benchmark.linears import LinearResult
from sqap_vla_ros.benchmark.measure import Measurement
from sqap_vla_ros.benchmark.paired import Ratio
from sqap_vla_ros.benchmark.variants import PRUNING

_CLOCKS = {'perf_counter': 'time on the wall', 'thread_time': 'processor time of the thread'}
BASELINES = ('fp32', 'bf16', 'bf16_graph')


def to_json(
    preset: str,
    machine: dict[str, Any],
    peaks: dict[str, float],
    measurements: list[Measurement],
    linears: list[LinearResult],
    left_out: list[str],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Collect everything, JSON-ready; a ratio is null where its spread exceeds the difference."""
    by_name = {m.workload.variant.name: m for m in measurements}
    return {
        'preset': preset,
        'machine': machine,
        'peak_gmacs': peaks,
        'left_out': left_out,
        **settings,
        'pruning': {'ratio': PRUNING.ratio, 'layer': PRUNING.layer, 'method': PRUNING.method},
        'variants': [_variant(m, by_name) for m in measurements],
        'linears': [{**asdict(r), 'ratio': _ratio(r.ratio)} for r in linears],
    }


def _variant(measurement: Measurement, by_name: dict[str, Measurement]) -> dict[str, Any]:
    workload, total = measurement.workload, measurement.total
    peak = workload.peak_bytes()
    return {
        'variant': workload.variant.name,
        'backend': workload.backends,
        'runtime': workload.runtime,
        'median_ms': total.median,
        'interval_ms': [total.low, total.high],
        'stages_ms': {
            stage: float(np.median(times))
            for stage, times in measurement.rounds.items()
            if stage != 'total'
        },
        'weight_bytes': workload.weight_bytes,
        'peak_bytes': peak,
        'times_faster_than': {
            name: _ratio(measurement.ratio(by_name[name]))
            for name in BASELINES
            if name in by_name and name != workload.variant.name
        },
    }


def _ratio(ratio: Ratio) -> dict[str, Any]:
    return {
        'value': ratio.value if ratio.resolved else None,
        'interval': [ratio.low, ratio.high],
        'spread': ratio.spread,
    }


def print_report(report: dict[str, Any]) -> None:
    """Table of the variants, of the linear layers, and what the machine was."""
    print('  '.join(f'{key} {value}' for key, value in report['machine'].items()))
    print(
        'peak '
        + ', '.join(f'{kind} {value:.0f} GMAC/s' for kind, value in report['peak_gmacs'].items())
    )
    pruning = report['pruning']
    print(
        f'prune40: {pruning["ratio"]:.0%} of the visual tokens leave before layer '
        f'{pruning["layer"]} ({pruning["method"]}); {report["rounds"]} interleaved rounds, '
        f'{_CLOCKS[report["clock"]]}'
    )
    for reason in report['left_out']:
        print(f'left out: {reason}')
    if report['variants']:
        _print_variants(report['variants'])
    if report['linears']:
        _print_linears(report['linears'], report['peak_gmacs'])


def _print_variants(variants: list[dict[str, Any]]) -> None:
    baselines = [name for name in BASELINES if any(v['variant'] == name for v in variants)]
    header = [
        'variant',
        'median ms',
        '95 % interval',
        *(f'x {name}' for name in baselines),
        'weights MB',
        'stages ms',
        'backend',
        'runtime',
    ]
    rows = []
    for v in variants:
        low, high = v['interval_ms']
        rows.append(
            [
                v['variant'],
                f'{v["median_ms"]:.2f}',
                f'{low:.2f} .. {high:.2f}',
                *(_show(v['times_faster_than'].get(name)) for name in baselines),
                f'{v["weight_bytes"] / 1e6:.1f}',
                ' '.join(f'{stage} {ms:.2f}' for stage, ms in v['stages_ms'].items()),
                v['backend'],
                v['runtime'],
            ]
        )
    _print_table(header, rows)
    if any(_show(r) == '(spread)' for v in variants for r in v['times_faster_than'].values()):
        print('(spread): rounds differ by more than the ratio does from 1')


def _print_linears(linears: list[dict[str, Any]], peaks: dict[str, float]) -> None:
    rows = [
        [
            f'{r["inputs"]} -> {r["outputs"]}',
            str(r['rows']),
            r['variant'],
            f'{r["milliseconds"]:.3f}',
            f'{r["baseline_milliseconds"]:.3f}',
            _show(r['ratio']),
            f'{r["gmacs"]:.0f}',
            f'{r["gmacs"] / peaks["int8"]:.0%}' if 'int8' in peaks else '',
            r['backend'],
            r['baseline'],
        ]
        for r in linears
    ]
    _print_table(
        [
            'layer',
            'rows',
            'variant',
            'ms',
            'bf16 ms',
            'x bf16',
            'GMAC/s',
            'of peak',
            'backend',
            'bf16 by',
        ],
        rows,
    )


def _show(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return '1'
    return '(spread)' if ratio['value'] is None else f'{ratio["value"]:.2f}'


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    for row in (header, *rows):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write the report."""
    path.write_text(json.dumps(report, indent=1) + '\n', 'utf-8')


def plot(report: dict[str, Any], path: Path) -> None:
    """Stacked bars of the stages' medians, with the interval of the whole."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.5 * len(report['variants']) + 1.6), layout='constrained')
    axes = figure.subplots()
    names = [v['variant'] for v in report['variants']]
    left = np.zeros(len(names))
    for stage in report['variants'][0]['stages_ms'] or ['total']:
        values = np.array(
            [
                v['stages_ms'].get(stage, v['median_ms'] if stage == 'total' else 0)
                for v in report['variants']
            ]
        )
        axes.barh(names, values, left=left, label=stage)
        left += values
    totals = np.array([[v['median_ms'], *v['interval_ms']] for v in report['variants']])
    axes.errorbar(
        totals[:, 0],
        names,
        xerr=[totals[:, 0] - totals[:, 1], totals[:, 2] - totals[:, 0]],
        fmt='none',
        ecolor='black',
        capsize=3,
    )
    axes.invert_yaxis()
    axes.set_xlabel('milliseconds')
    axes.set_title(
        f'{report["preset"]}: {report["machine"]["cpu"]}, '
        f'{report["machine"]["threads"]} thread(s), {report["machine"]["device"]}',
        fontsize=9,
    )
    axes.legend()
    figure.savefig(path)
