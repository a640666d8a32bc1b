"""Markdown of what episodes say: success, paired comparisons, smoothness, time."""
from sqap_vla_ros.compression.recipe import find_recipe, load_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.evaluation.confidence import holm, percent
from sqap_vla_ros.evaluation.summary import REFERENCES, summarise

BASELINE_TITLES = {
    'none': 'Success', 'shuffled_image': 'With images of other episodes',
    'blank_instruction': 'Without an instruction',
    'swapped_instruction': 'With the instruction of another task'}


def markdown(by_baseline: dict[str, list[dict]], plots: dict[str, str]) -> str:
    """
    Write the report.

    by_baseline: episodes as `read_results` gives them. plots: title to file name, in the report's
    directory.
    """
    parts = ['# Evaluation\n\nClosed-loop episodes on common seeds; brackets are 95 % Wilson '
             'intervals.']
    for baseline, episodes in by_baseline.items():
        summaries = sorted(summarise(episodes), key=lambda s: (s['variant'] != 'full',
                                                               s['variant']))
        parts.append(f'## {BASELINE_TITLES.get(baseline, baseline)}\n\n{_success(summaries)}')
        if baseline == 'none':
            parts += [f'### {title}\n\n![{title}]({file})' for title, file in plots.items()]
            parts += _comparisons(summaries)
            parts.append(f'## Motion and time\n\n{_motion(summaries)}')
        elif baseline == 'swapped_instruction':
            parts.append('Ended by the thing that the other instruction asks for: ' + ', '.join(
                f'{s["variant"]} {percent(round(s["wrong"] * s["episodes"]), s["episodes"])}'
                for s in summaries) + '.')
    return '\n\n'.join(parts) + '\n'


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _success(summaries):
    tasks = list(dict.fromkeys(task for s in summaries for task in s['tasks']))
    rows = []
    for s in summaries:
        cells = [_share(s['tasks'][task]) if task in s['tasks'] else '' for task in tasks]
        rows.append([f'`{s["variant"]}`', *cells, _share(s), str(s['episodes'])])
    return table(['variant', *tasks, 'all', 'episodes'], rows)


def _share(part):
    return percent(round(part['success'] * part['episodes']), part['episodes'])


def _comparisons(summaries):
    """
    One section for each variant that others are compared with.

    A variant that prunes is compared with those that prune the same share. Holm's correction is
    over the rows of a section.
    """
    parts = []
    for other in (s['variant'] for s in summaries if s['variant'].split('_')[0] in REFERENCES):
        share = _pruned(other)
        own = [(s['variant'], s['against'][other]) for s in summaries if other in s['against']
               and (not share or _pruned(s['variant']) == share)]
        if not own:
            continue
        corrected = holm([pair['mcnemar_p'] for _, pair in own])
        rows = [[f'`{name}`', f'{100 * pair["difference"]:+.1f}',
                 '{:+.1f} .. {:+.1f}'.format(*(100 * end for end in pair['difference_95'])),
                 f'{pair["only_this"]} / {pair["only_other"]}', str(pair['pairs']),
                 _p(pair['mcnemar_p']), _p(p)] for (name, pair), p in zip(own, corrected)]
        parts.append(f'## Against `{other}`, paired\n\n' + table(
            ['variant', 'difference (points)', '95 % interval', 'only this / only other', 'pairs',
             'exact McNemar p', "Holm's p"], rows))
    return parts


def _pruned(variant):
    """Share of tokens that a variant prunes; None where its recipe is not known any more."""
    try:
        pruning = load_recipe(find_recipe(variant)).pruning
    except UserError:
        return None
    return 0.0 if pruning is None else pruning.ratio


def _p(value):
    return f'{value:.2g}' if value >= 1e-4 else f'{value:.0e}'


def _motion(summaries):
    stages = list(dict.fromkeys(stage for s in summaries for stage in s['median_latency_ms']))
    rows = []
    for s in summaries:
        time_s = s['median_time_to_success_s']
        rows.append([f'`{s["variant"]}`', '' if time_s is None else f'{time_s:.2f}',
                     f'{s["mean_squared_jerk_m2_s6"]:.0f}', f'{s["median_tokens_kept"]:.0f}',
                     *(f'{s["median_latency_ms"].get(stage, 0.0):.1f}' for stage in stages)])
    return table(['variant', 'median time to success (s)', 'mean squared jerk (m^2/s^6)',
                  'tokens', *(f'{stage} (ms)' for stage in stages)], rows) + (
        '\n\nLatencies are medians over episodes, of several processes at once on one machine: '
        '`sqap_vla bench` is for comparing speed.')
