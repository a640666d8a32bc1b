"""The Markdown report: success, paired comparisons, smoothness, time."""

from collections.abc import Sequence

from sqap_vla_ros.evaluation.proportions import holm, percent
from sqap_vla_ros.evaluation.result_files import known_recipe
from sqap_vla_ros.evaluation.summary import REFERENCES, summarise

TOKENS_TITLE = 'Kept visual tokens'
BASELINE_TITLES = {
    'none': 'Success',
    'shuffled_image': 'With images of other episodes',
    'blank_instruction': 'Without an instruction',
    'swapped_instruction': 'With the instruction of another task',
}


def markdown(
    by_baseline: dict[str, list[dict]],
    plots: dict[str, str],
    not_drawn: dict[str, str] | None = None,
    open_loop: Sequence[dict] = (),
) -> str:
    """
    Format the report.

    Args:
        by_baseline: episodes, from `read_results`.
        plots: title to file name, in the directory of the report.
        not_drawn: title to the reason why there is no such plot.
        open_loop: open-loop comparisons, from `read_open_loop`.

    Returns:
        The report as Markdown.
    """
    parts = ['# Evaluation']
    if by_baseline:
        parts[0] += '\n\nClosed-loop episodes on common seeds; brackets are 95 % Wilson intervals.'
    for baseline, episodes in by_baseline.items():
        summaries = sorted(
            summarise(episodes), key=lambda s: (s['variant'] != 'full', s['variant'])
        )
        parts.append(f'## {BASELINE_TITLES.get(baseline, baseline)}\n\n{_success(summaries)}')
        if baseline == 'none':
            parts += _plots(summaries, plots, not_drawn or {})
            parts += _comparisons(summaries)
            parts.append(f'## Motion and time\n\n{_motion(summaries)}')
        elif baseline == 'swapped_instruction':
            parts.append(
                'Ended by the thing that the other instruction asks for: '
                + ', '.join(
                    f'{s["variant"]} {percent(round(s["wrong"] * s["episodes"]), s["episodes"])}'
                    for s in summaries
                )
                + '.'
            )
    return '\n\n'.join([*parts, *map(_open_loop, open_loop)]) + '\n'


def table(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _success(summaries: list[dict]) -> str:
    tasks = list(dict.fromkeys(task for s in summaries for task in s['tasks']))
    rows = []
    for s in summaries:
        cells = [_share(s['tasks'][task]) if task in s['tasks'] else '' for task in tasks]
        rows.append([f'`{s["variant"]}`', *cells, _share(s), str(s['episodes'])])
    return table(['variant', *tasks, 'all', 'episodes'], rows)


def _share(part: dict) -> str:
    return percent(round(part['success'] * part['episodes']), part['episodes'])


def _plots(summaries: list[dict], plots: dict[str, str], not_drawn: dict[str, str]) -> list[str]:
    parts = [f'### {title}\n\n![{title}]({file})' for title, file in plots.items()]
    parts += [f'No plot "{title}": {reason}.' for title, reason in not_drawn.items()]
    unknown = [f'`{s["variant"]}`' for s in summaries if known_recipe(s['variant']) is None]
    if unknown:
        parts.append(f'Not in any plot, for their recipes were not found: {", ".join(unknown)}.')
    return parts


def _comparisons(summaries: list[dict]) -> list[str]:
    """
    Format one section for each variant that others are compared with.

    All variants are compared with full precision; with another reference, only those with the
    same bits and the same pruned share. Holm's correction is over the rows of a section.
    """
    parts = []
    for other in (s['variant'] for s in summaries if s['variant'].split('_')[0] in REFERENCES):
        own = [
            (s['variant'], s['against'][other])
            for s in summaries
            if other in s['against']
            and (other == 'full' or _budget(s['variant']) == _budget(other))
        ]
        if not own:
            continue
        corrected = holm([pair['mcnemar_p'] for _, pair in own])
        rows = [
            [
                f'`{name}`',
                f'{100 * pair["difference"]:+.1f}',
                '{:+.1f} .. {:+.1f}'.format(*(100 * end for end in pair['difference_95'])),
                f'{pair["only_this"]} / {pair["only_other"]}',
                str(pair['pairs']),
                _p(pair['mcnemar_p']),
                _p(p),
            ]
            for (name, pair), p in zip(own, corrected)
        ]
        parts.append(
            f'## Against `{other}`, paired\n\n'
            + table(
                [
                    'variant',
                    'difference (points)',
                    '95 % interval',
                    'only this / only other',
                    'pairs',
                    'exact McNemar p',
                    "Holm's p",
                ],
                rows,
            )
        )
    return parts


def _budget(variant: str) -> tuple[object, float] | None:
    """Return bits and pruned share; None when the recipe is not known any more."""
    recipe = known_recipe(variant)
    if recipe is None:
        return None
    quantization = recipe.quantization
    bits = quantization and (quantization.weight_bits, quantization.activation_bits)
    return bits, 0.0 if recipe.pruning is None else recipe.pruning.ratio


def _p(value: float) -> str:
    return f'{value:.2g}' if value >= 1e-4 else f'{value:.0e}'


def _motion(summaries: list[dict]) -> str:
    stages = list(dict.fromkeys(stage for s in summaries for stage in s['median_latency_ms']))
    rows = []
    for s in summaries:
        time_s, size = s['median_time_to_success_s'], s['weight_bytes']
        rows.append(
            [
                f'`{s["variant"]}`',
                '' if time_s is None else f'{time_s:.2f}',
                f'{s["mean_squared_jerk_m2_s6"]:.0f}',
                f'{s["median_tokens_kept"]:.0f}',
                '' if size is None else f'{size / 1e6:.1f}',
                *(f'{s["median_latency_ms"].get(stage, 0.0):.1f}' for stage in stages),
            ]
        )
    return table(
        [
            'variant',
            'median time to success (s)',
            'mean squared jerk (m^2/s^6)',
            'tokens',
            'weights (MB)',
            *(f'{stage} (ms)' for stage in stages),
        ],
        rows,
    ) + (
        '\n\nWeights: parameters and buffers in memory. Latencies are medians over episodes, of '
        'several processes at once on one machine: `sqap_vla bench` is for comparing speed.'
    )


def _open_loop(found: dict) -> str:
    """Format the section of one file of `--open-loop`."""
    variants = found['variants']
    columns = list(
        dict.fromkeys(name for own in variants.values() for name in own['action_error'])
    )
    rows = []
    for variant, own in variants.items():
        layers: dict[str, float] = own['layer_error'] or {}
        worst = max(layers, key=layers.__getitem__, default=None)
        rows.append(
            [
                f'`{variant}`',
                *(
                    f'{own["action_error"][name]:.4f}' if name in own['action_error'] else ''
                    for name in columns
                ),
                ''
                if own['attention_overlap'] is None
                else f'{100 * own["attention_overlap"]:.0f} %',
                *(
                    ('', '', '')
                    if worst is None
                    else (
                        f'{sum(layers.values()) / len(layers):.3f}',
                        f'{layers[worst]:.3f}',
                        f'`{worst}`',
                    )
                ),
            ]
        )
    frames = ', '.join(str(n) for n in sorted({own['frames'] for own in variants.values()}))
    return (
        f'## Open loop: {", ".join(found["tasks"])}\n\n'
        + table(
            [
                'variant',
                *(f'error of {name}' for name in columns),
                'attention overlap',
                'mean layer error',
                'worst',
                'worst layer',
            ],
            rows,
        )
        + f'\n\nAgainst full precision, on {frames or "no"} frames of the expert: mean absolute '
        'difference of the action chunks, share of the most attended tokens that agree, norm of a '
        "quantized layer's error over that of its output."
    )
