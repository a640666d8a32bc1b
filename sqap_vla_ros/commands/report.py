"""`sqap_vla report`: tables and plots of the results of `sqap_vla evaluate`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'results',
        nargs='+',
        type=Path,
        metavar='RESULT.json',
        help='result files of `sqap_vla evaluate --json` for one policy, also with '
        '--open-loop or --baseline; all go into one report',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=Path('out/report'),
        metavar='DIR',
        help='directory for report.md and plots (default %(default)s)',
    )
    parser.add_argument(
        '--overlays',
        type=Path,
        metavar='POLICY',
        help='float policy directory; also draw which tokens each pruning variant keeps, and why',
    )


def run(arguments: Namespace) -> int:
    """Write the report, and print its path."""
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.evaluation.markdown_report import markdown, TOKENS_TITLE
    from sqap_vla_ros.evaluation.plots import BITS_TITLE, draw_plots, PRUNING_TITLE
    from sqap_vla_ros.evaluation.result_files import read_open_loop, read_results
    from sqap_vla_ros.evaluation.summary import summarise

    by_baseline, open_loop = read_results(arguments.results), read_open_loop(arguments.results)
    summaries = summarise(by_baseline.get('none', []))
    reasons = {
        PRUNING_TITLE: 'no variant prunes',
        BITS_TITLE: 'it takes variants of two bit widths that do not prune',
        TOKENS_TITLE: 'no variant prunes'
        if arguments.overlays
        else '`--overlays POLICY` draws it',
    }
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        plots = draw_plots(summaries, arguments.output)
        if arguments.overlays:
            from sqap_vla_ros.evaluation.token_pictures import draw_kept_tokens

            plots |= draw_kept_tokens(
                arguments.overlays,
                [s['variant'] for s in summaries],
                list(summaries[0]['tasks']) if summaries else [],
                arguments.output,
            )
        not_drawn = {title: why for title, why in reasons.items() if title not in plots}
        path = arguments.output / 'report.md'
        path.write_text(markdown(by_baseline, plots, not_drawn, open_loop), 'utf-8')
    except OSError as error:
        raise UserError(
            f'--output {arguments.output}: cannot write there ({error.strerror}); '
            'name another directory'
        ) from None
    print(
        f'{path}: {sum(map(len, by_baseline.values()))} episodes, '
        f'{len(summaries)} variants, plots: {", ".join(plots.values()) or "none"}'
    )
    return 0
