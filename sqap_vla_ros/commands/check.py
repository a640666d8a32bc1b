"""`sqap_vla check`: whether a policy reacts to image and instruction, and stays in range."""

import argparse
from pathlib import Path

from sqap_vla_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('policy', type=Path, help='policy directory, compressed or not')
    parser.add_argument(
        '--reference',
        type=Path,
        metavar='DIR',
        help='the float policy that it was compressed from: report the difference',
    )
    parser.add_argument('--device', default='cpu', help='torch device (default %(default)s)')


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each check and a verdict; returns 1 when a check failed."""
    from sqap_vla_ros.models.loading import load_policy
    from sqap_vla_ros.models.self_test import check_columns, self_test
    from sqap_vla_ros.runtime_options import RuntimeOptions

    runtime = RuntimeOptions(arguments.device)
    policy = load_policy(arguments.policy, runtime=runtime)
    reference = arguments.reference and load_policy(arguments.reference, runtime=runtime)
    if reference is not None and reference.spec != policy.spec:
        raise UserError(
            f'--reference: {arguments.reference} has other cameras, state or action columns, or '
            f'another horizon; expected the float policy that {arguments.policy} was compressed '
            'from'
        )
    columns, lines = check_columns(policy)
    for line in lines:
        print(line)
    try:
        checks = [columns, *self_test(policy, reference)]
    except RuntimeError as error:  # torch's, for example of weights of several types
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{arguments.policy}: cannot be run: {reason}') from None
    for check in checks:
        print(f'{"ok  " if check.passed else "FAIL"} {check.name}: {check.detail}')
    failed = [check.name for check in checks if not check.passed]
    print(f'{arguments.policy}: ' + (f'failed: {", ".join(failed)}' if failed else 'passed'))
    return 1 if failed else 0
