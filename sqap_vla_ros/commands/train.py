"""`sqap_vla train`: a policy of the simulated arm from seeds, such as the one that ships."""

from argparse import ArgumentTypeError
from dataclasses import fields, replace
from pathlib import Path


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument('output', type=Path, help='directory; an interrupted run resumes in it')
    parser.add_argument(
        '--dataset',
        choices=('sqap_vla_sim', 'sqap_vla_sim_small_objects'),
        help='tasks to be learned: of the demonstration (default), or of the benchmark',
    )
    parser.add_argument('--steps', type=int, help='optimiser steps')
    parser.add_argument('--shards', type=int, help='shards of expert demonstrations')
    parser.add_argument('--episodes', type=int, help='expert episodes of each task in a shard')
    parser.add_argument(
        '--dagger-at',
        type=_shares,
        metavar='SHARE,SHARE,...',
        help="shares of the steps after which the policy's own episodes are "
        'labelled and added (default 0.5)',
    )
    parser.add_argument('--dagger-episodes', type=int, help='episodes of each task and round')
    parser.add_argument('--batch', type=int, help='samples a step and worker')
    parser.add_argument('--workers', type=int, help='processes (default 2)')
    parser.add_argument('--seed', type=int, help='of everything random (default 0)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='(default cpu)')


def run(arguments) -> int:
    """Train; prints where the policy is."""
    from sqap_vla_ros.training.pipeline import Plan, train

    given = {f.name: getattr(arguments, f.name, None) for f in fields(Plan)}
    plan = replace(Plan(), **{k: v for k, v in given.items() if v is not None})
    train(plan, arguments.output)
    print(f'policy: {arguments.output / "policy"}')
    return 0


def _shares(text):
    try:
        shares = tuple(float(share) for share in text.split(','))
    except ValueError:
        shares = (0.0,)
    if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
        raise ArgumentTypeError(
            f'{text!r}: expected growing numbers between 0 and 1, such as 0.3,0.6'
        )
    return shares
