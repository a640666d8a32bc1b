"""`sqap_vla evaluate`: success of variants of a policy in the simulation, on common seeds."""

from dataclasses import asdict
import json
import os
from pathlib import Path


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--policy',
        type=Path,
        help='float policy directory (default: the one that comes with the package)',
    )
    parser.add_argument(
        '--variants',
        default='full,sqap_w4a4_prune40',
        help='recipe names or files, separated by commas; full: no compression '
        '(default %(default)s)',
    )
    parser.add_argument('--tasks', help='separated by commas (default: all)')
    parser.add_argument(
        '--episodes', type=int, default=50, help='of each task and variant (default %(default)s)'
    )
    parser.add_argument(
        '--seeds',
        type=int,
        default=1000,
        metavar='FIRST',
        help='seed of the first episode; the others follow (default %(default)s)',
    )
    parser.add_argument(
        '--baseline',
        default='none',
        choices=('none', 'shuffled_image', 'blank_instruction', 'swapped_instruction'),
        help='what is taken away from the policy (default %(default)s)',
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes (default: one a core)'
    )
    parser.add_argument(
        '--ray',
        metavar='ADDRESS',
        help="run on a Ray cluster instead: its head's address, auto, or local "
        '(pip install "sqap_vla_ros[ray]")',
    )
    parser.add_argument(
        '--open-loop',
        action='store_true',
        help="compare the variants' actions, attention and layers on the expert's "
        'frames instead; --episodes of the expert for each task',
    )
    parser.add_argument(
        '--json',
        type=Path,
        metavar='OUT',
        help='write results and episodes; an interrupted run goes on from OUT.episodes',
    )


def run(arguments) -> int:
    """Print a table, a row a variant and a column a task."""
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.evaluation.runner import Experiment, load_variant, run_experiment
    from sqap_vla_ros.evaluation.summary import summarise, table
    from sqap_vla_ros.evaluation.tasks import choose_tasks
    from sqap_vla_ros.resources import find_resource

    policy = arguments.policy or find_resource('policies/small')
    tasks = choose_tasks(arguments.tasks and arguments.tasks.split(','), policy)
    if arguments.episodes < 1 or arguments.workers < 1:
        raise UserError('--episodes and --workers must be 1 or more')
    if arguments.open_loop and (arguments.ray or arguments.baseline != 'none'):
        raise UserError(
            '--open-loop runs in this process, with nothing taken away; leave out '
            '--ray and --baseline'
        )
    experiment = Experiment(
        str(policy),
        tuple(arguments.variants.split(',')),
        tasks,
        arguments.episodes,
        arguments.seeds,
        arguments.baseline,
    )
    if arguments.open_loop:
        return _open_loop(experiment, arguments.json)
    for variant in experiment.variants:  # a mistake is better told once than by each worker
        load_variant(experiment.policy, variant)
    log = Path(f'{arguments.json}.episodes') if arguments.json else None
    episodes = run_experiment(experiment, arguments.workers, log, arguments.ray)
    summaries = summarise(episodes)
    summaries.sort(key=lambda s: experiment.variants.index(s['variant']))
    print(table(summaries))
    if arguments.json:
        report = {'experiment': asdict(experiment), 'variants': summaries, 'episodes': episodes}
        arguments.json.write_text(json.dumps(report, indent=1) + '\n', 'utf-8')
        log.unlink(missing_ok=True)
    return 0


def _open_loop(experiment, out) -> int:
    from sqap_vla_ros.evaluation.open_loop import compare_open_loop, table

    results = compare_open_loop(experiment)
    print(table(results))
    if out:
        out.write_text(
            json.dumps({'experiment': asdict(experiment), 'open_loop': results}, indent=1) + '\n',
            'utf-8',
        )
    return 0
