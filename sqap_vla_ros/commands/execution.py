"""`sqap_vla execution`: compare inference while the arm moves with inference while it stands."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
import json
import os
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--policy',
        type=Path,
        help='float policy directory (default: the one shipped with the package)',
    )
    parser.add_argument(
        '--variant',
        default='full',
        help='recipe name or file; full: no compression (default %(default)s)',
    )
    parser.add_argument(
        '--tasks', help='separated by commas (default: those the policy was trained on)'
    )
    parser.add_argument(
        '--episodes',
        type=int,
        default=100,
        help='episodes per mode, spread over the tasks (default %(default)s)',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        default=4000,
        metavar='FIRST',
        help='seed of the first episode (default %(default)s)',
    )
    parser.add_argument(
        '--delay',
        type=float,
        default=0.2,
        metavar='SECONDS',
        help='robot time from an observation to its chunk (default %(default)s)',
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes (default: one per core)'
    )
    parser.add_argument(
        '--json',
        type=Path,
        metavar='OUT',
        help='write results and episodes; an interrupted run continues from OUT.MODE',
    )
    parser.add_argument(
        '--plot',
        type=Path,
        metavar='OUT',
        help='draw the commanded speed in the scene with the most pauses',
    )


def run(arguments: Namespace) -> int:
    """Print success, jerk and pauses of the modes, and the paired differences."""
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.evaluation.execution_modes import (
        plot_example,
        run_modes,
        scene_with_most_pauses,
        summarise_modes,
        text,
    )
    from sqap_vla_ros.evaluation.runner import Experiment, load_variant
    from sqap_vla_ros.evaluation.tasks import choose_tasks, warn_of_words
    from sqap_vla_ros.resources import find_resource

    policy = arguments.policy or find_resource('policies/small')
    tasks = choose_tasks(arguments.tasks and arguments.tasks.split(','), policy)
    if arguments.episodes < 1 or arguments.workers < 1 or not 0 <= arguments.delay < 10:
        raise UserError('--episodes and --workers must be 1 or more, --delay 0 .. 10')
    experiment = Experiment(
        str(policy),
        (arguments.variant,),
        tasks,
        -(-arguments.episodes // len(tasks)),
        arguments.seeds,
    )
    # Report a mistake once, not once per worker.
    warn_of_words(load_variant(experiment.policy, arguments.variant).spec, tasks)
    episodes = run_modes(experiment, arguments.delay, arguments.workers, arguments.json)
    report = summarise_modes(episodes)
    print(text(report))
    if arguments.plot:
        plot_example(
            arguments.plot,
            experiment.policy,
            arguments.variant,
            *scene_with_most_pauses(episodes),
            arguments.delay,
        )
    if arguments.json:
        arguments.json.write_text(
            json.dumps(
                {
                    'experiment': asdict(experiment),
                    'delay_s': arguments.delay,
                    'report': report,
                    'episodes': episodes,
                },
                indent=1,
            )
            + '\n',
            'utf-8',
        )
        for mode in episodes:
            Path(f'{arguments.json}.{mode}').unlink(missing_ok=True)
    return 0
