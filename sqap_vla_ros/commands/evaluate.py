"""`sqap_vla evaluate`: success of policy variants in simulation, on common seeds."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqap_vla_ros.evaluation.runner import Experiment


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--policy',
        type=Path,
        help='float policy directory (default: the one shipped with the package)',
    )
    parser.add_argument(
        '--variants',
        default='full,sqap_w4a4_prune40',
        help='recipe names or files, separated by commas; full: no compression '
        '(default %(default)s)',
    )
    parser.add_argument(
        '--tasks', help='separated by commas (default: those the policy was trained on)'
    )
    parser.add_argument(
        '--episodes',
        type=int,
        default=50,
        help='episodes per task and variant (default %(default)s)',
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
        help='what the policy is deprived of (default %(default)s)',
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes (default: one per core)'
    )
    parser.add_argument(
        '--ray',
        metavar='ADDRESS',
        help="run on a Ray cluster: address of its head, 'auto' or 'local' "
        '(pip install "sqap_vla_ros[ray]")',
    )
    parser.add_argument(
        '--open-loop',
        action='store_true',
        help="compare the variants' actions, attention and layers on the expert's "
        'frames, without running the policy; --episodes sets the expert episodes per task',
    )
    parser.add_argument(
        '--json',
        type=Path,
        metavar='OUT',
        help='write results and episodes; an interrupted run continues from OUT.episodes',
    )


def run(arguments: Namespace) -> int:
    """Print a table with one row per variant and one column per task."""
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.evaluation.runner import Experiment, load_variant, run_experiment
    from sqap_vla_ros.evaluation.summary import summarise, table
    from sqap_vla_ros.evaluation.tasks import choose_tasks, warn_of_words
    from sqap_vla_ros.resources import find_resource

    policy = arguments.policy or find_resource('policies/small')
    tasks = choose_tasks(arguments.tasks and arguments.tasks.split(','), policy)
    if arguments.episodes < 1 or arguments.workers < 1:
        raise UserError('--episodes and --workers must be 1 or more')
    if arguments.open_loop and (arguments.ray or arguments.baseline != 'none'):
        raise UserError(
            '--open-loop runs in this process and without a baseline; leave out '
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
    for variant in experiment.variants:  # report a mistake once, not once per worker
        loaded = load_variant(experiment.policy, variant)
    warn_of_words(loaded.spec, tasks)
    log = Path(f'{arguments.json}.episodes') if arguments.json else None
    episodes = run_experiment(experiment, arguments.workers, log, arguments.ray)
    summaries = summarise(episodes)
    summaries.sort(key=lambda s: experiment.variants.index(s['variant']))
    print(table(summaries))
    if arguments.json:
        report = {'experiment': asdict(experiment), 'variants': summaries, 'episodes': episodes}
        arguments.json.write_text(json.dumps(report, indent=1) + '\n', 'utf-8')
        Path(f'{arguments.json}.episodes').unlink(missing_ok=True)
    return 0


def _open_loop(experiment: 'Experiment', out: Path | None) -> int:
    from sqap_vla_ros.evaluation.open_loop import compare_open_loop, table

    results = compare_open_loop(experiment)
    print(table(results))
    if out:
        out.write_text(
            json.dumps({'experiment': asdict(experiment), 'open_loop': results}, indent=1) + '\n',
            'utf-8',
        )
    return 0
