"""`sqap_vla soak`: run the whole system for minutes or hours with random faults."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--minutes', type=float, default=30.0, help='(default %(default)s)')
    parser.add_argument(
        '--worker-kills',
        type=int,
        default=0,
        metavar='N',
        help='kill the inference worker N times and do nothing else',
    )
    parser.add_argument('--seed', type=int, default=0, help='of faults and scenes')
    parser.add_argument(
        '--policy',
        type=Path,
        help='policy directory; a float one is compressed first (default: the '
        'policy that comes with the package)',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=Path('out/soak'),
        help='directory for soak.json and logs (default %(default)s)',
    )
    parser.add_argument('--domain-id', type=int, help='ROS domain (default: one that is free)')


def run(arguments: argparse.Namespace) -> int:
    """Print the measurements; returns 1 if the soak test failed."""
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.resources import find_resource
    from sqap_vla_ros.system import soak
    from sqap_vla_ros.system.soak_report import text

    if arguments.minutes <= 0 or arguments.worker_kills < 0:
        raise UserError('--minutes must be more than 0, --worker-kills 0 or more')
    record = soak.run(
        arguments.policy or find_resource('policies/small'),
        arguments.output,
        arguments.minutes,
        arguments.seed,
        arguments.worker_kills,
        arguments.domain_id,
    )
    print(f'\n{text(record)}')
    (arguments.output / 'soak.json').write_text(
        json.dumps(record.to_dict(), indent=1) + '\n', 'utf-8'
    )
    return 1 if record.problems() else 0
