"""`sqap_vla report`: tables and plots of what `sqap_vla evaluate` found."""
from pathlib import Path


def add_arguments(parser):
    """Declare the arguments."""
    parser.add_argument('results', nargs='+', type=Path, metavar='RESULT.json',
                        help='files of `sqap_vla evaluate --json`, of one policy; all are put '
                             'into one report')
    parser.add_argument('--output', type=Path, default=Path('out/report'), metavar='DIR',
                        help='directory for report.md and plots (default %(default)s)')
    parser.add_argument('--overlays', type=Path, metavar='POLICY',
                        help='float policy directory; also draw which tokens it keeps, and why, '
                             'as each pruning variant')


def run(arguments) -> int:
    """Write the report; prints where it is."""
    from sqap_vla_ros.evaluation.plots import draw_plots
    from sqap_vla_ros.evaluation.report import markdown
    from sqap_vla_ros.evaluation.results import read_results
    from sqap_vla_ros.evaluation.summary import summarise

    by_baseline = read_results(arguments.results)
    arguments.output.mkdir(parents=True, exist_ok=True)
    summaries = summarise(by_baseline.get('none', []))
    plots = draw_plots(summaries, arguments.output)
    if arguments.overlays:
        from sqap_vla_ros.evaluation.token_pictures import draw_kept_tokens

        plots |= draw_kept_tokens(arguments.overlays, [s['variant'] for s in summaries],
                                  list(summaries[0]['tasks']) if summaries else [],
                                  arguments.output)
    path = arguments.output / 'report.md'
    path.write_text(markdown(by_baseline, plots), 'utf-8')
    print(f'{path}: {sum(map(len, by_baseline.values()))} episodes, '
          f'{len(summaries)} variants, plots: {", ".join(plots.values()) or "none"}')
    return 0
