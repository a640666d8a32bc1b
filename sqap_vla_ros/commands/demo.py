"""`sqap_vla demo`: the compressed policy drives the simulated arm, in two ROS processes."""

import argparse
from pathlib import Path
import sys
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--policy',
        type=Path,
        help='policy directory; a float one is compressed first (default: the '
        'policy that comes with the package)',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=Path('out/demo'),
        help='directory for table, GIF and logs (default %(default)s)',
    )
    parser.add_argument('--tasks', nargs='+', metavar='TASK', help='(default: all)')
    parser.add_argument(
        '--seed',
        type=int,
        default=2000,
        help='of the scenes; a failed task gets the next one too (default %(default)s)',
    )
    parser.add_argument(
        '--limit',
        type=float,
        default=15.0,
        metavar='SECONDS',
        help='for one attempt (default %(default)s)',
    )
    parser.add_argument('--domain-id', type=int, help='ROS domain (default: one that is free)')


def run(arguments: argparse.Namespace) -> int:
    """Run every task, print a table; 1 when fewer than 4 in 5 tasks succeeded."""
    from sqap_vla_ros.evaluation.tasks import choose_tasks
    from sqap_vla_ros.resources import find_resource
    from sqap_vla_ros.simulation.loop import import_simulator
    from sqap_vla_ros.system.session import SimulatedSession

    began_s = time.monotonic()
    import_simulator()
    policy = arguments.policy or find_resource('policies/small')
    tasks = choose_tasks(arguments.tasks, policy)
    with SimulatedSession(
        policy,
        arguments.output,
        tasks[0],
        arguments.seed,
        arguments.domain_id,
        simulated_time=True,
    ) as session:
        attempts, description = _drive(session, tasks, arguments.seed, arguments.limit)
    return _report(arguments.output, attempts, description, time.monotonic() - began_s)


def _drive(session, tasks, seed, limit_s):
    attempts = []
    for task in tasks:
        for number in (seed, seed + 1):
            attempts.append(_attempt(session.client, task, number, limit_s))
            if attempts[-1].succeeded:
                break
    return attempts, session.client.policy_description()


def _attempt(client, task, seed, limit_s):
    instruction = client.reset(task, seed)
    print(f'  {instruction} (seed {seed}) ... ', end='', flush=True)
    attempt = client.execute(task, instruction, seed, limit_s)
    print(
        f'done in {attempt.seconds:.1f} s'
        if attempt.succeeded
        else f'failed after {attempt.seconds:.1f} s: {attempt.reason}',
        flush=True,
    )
    return attempt


def _report(output: Path, attempts: list, description: dict[str, str], seconds: float) -> int:
    from sqap_vla_ros.system.demo_report import (
        enough_succeeded,
        succeeded_tasks,
        table,
        write_gif,
        write_json,
    )

    text = table(attempts, description)
    print(f'\n{text}\n')
    (output / 'table.txt').write_text(text + '\n', 'utf-8')
    write_json(output / 'table.json', attempts, description)
    written = 'table.txt, table.json'
    if write_gif(output / 'demo.gif', attempts):
        written += ', demo.gif'
    print(f'{output}: {written} and logs; {seconds:.0f} s in all')
    if not enough_succeeded(succeeded_tasks(attempts)):
        print('sqap_vla demo: fewer than 4 in 5 tasks succeeded', file=sys.stderr)
        return 1
    return 0
