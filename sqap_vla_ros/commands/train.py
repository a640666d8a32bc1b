"""`sqap_vla train`: train a policy for the simulated arm, such as the shipped one."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields, replace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('output', type=Path, help='directory; an interrupted run resumes in it')
    parser.add_argument(
        '--dataset',
        choices=('sqap_vla_sim', 'sqap_vla_sim_small_objects'),
        help='tasks to learn: those of the demonstration (default), or of the benchmark',
    )
    parser.add_argument('--steps', type=int, help='optimiser steps')
    parser.add_argument('--shards', type=int, help='shards of expert demonstrations')
    parser.add_argument('--episodes', type=int, help='expert episodes per task in a shard')
    parser.add_argument(
        '--dagger-at',
        type=_shares,
        metavar='SHARE,SHARE,...',
        help="fractions of the steps after which the policy's own episodes are "
        'labelled and added (default 0.5)',
    )
    parser.add_argument('--dagger-episodes', type=int, help='episodes per task and round')
    parser.add_argument('--batch', type=int, help='samples per step and worker')
    parser.add_argument('--workers', type=int, help='processes (default 2)')
    parser.add_argument('--seed', type=int, help='seed of all random numbers (default 0)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='torch device (default cpu)')


def run(arguments: Namespace) -> int:
    """Train, and print the path of the policy."""
    from sqap_vla_ros.training.pipeline import Plan, train

    given = {f.name: getattr(arguments, f.name, None) for f in fields(Plan)}
    plan = replace(Plan(), **{k: v for k, v in given.items() if v is not None})
    train(plan, arguments.output)
    print(f'policy: {arguments.output / "policy"}')
    return 0


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(share) for share in text.split(','))
    except ValueError:
        shares = (0.0,)
    if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
        raise ArgumentTypeError(
            f'{text!r}: expected increasing numbers between 0 and 1, such as 0.3,0.6'
        )
    return shares
