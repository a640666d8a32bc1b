"""`sqap_vla replay`: run a policy again on the observations of a black box."""

from argparse import ArgumentParser, Namespace
import json
from pathlib import Path
import sys


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bag', type=Path, help='bag directory written by the policy node')
    parser.add_argument(
        '--policy',
        type=Path,
        required=True,
        help='policy directory: the recorded policy, or another one to compare with it',
    )
    parser.add_argument('--device', default='cpu', help='torch device (default %(default)s)')
    parser.add_argument(
        '--tolerance',
        type=float,
        metavar='T',
        help='exit with 1 if any action differs by more than T, in its unit',
    )
    parser.add_argument(
        '--repeats',
        type=int,
        default=1000,
        metavar='N',
        help='how often the first observation may be repeated, as often as the policy had run '
        'since its reset; a bag from late in a long run needs more (default %(default)s)',
    )
    parser.add_argument('--json', type=Path, metavar='OUT', help='write the differences as JSON')


def run(arguments: Namespace) -> int:
    """Print the largest difference of each action."""
    from sqap_vla_ros.models.loading import load_policy
    from sqap_vla_ros.models.preprocessing.words import check_instructions
    from sqap_vla_ros.recording.bag_reader import read_bag
    from sqap_vla_ros.recording.entries import Observed
    from sqap_vla_ros.recording.replay import replay
    from sqap_vla_ros.runtime_options import RuntimeOptions

    entries = read_bag(arguments.bag)
    policy = load_policy(arguments.policy, runtime=RuntimeOptions(arguments.device))
    texts = [e.observation.instruction for _, e in entries if isinstance(e, Observed)]
    for line in check_instructions(texts, policy.spec.words, policy.spec.max_words):
        print(line, file=sys.stderr)
    result = replay(policy, entries, arguments.repeats)
    print(f'{result.inferences} inferences, {result.commands} commands')
    print(_images_line(result.approximate, len(texts)))
    print(f'{"largest difference":20} {"chunks":>12} {"commands":>12}')
    for i, (name, unit) in enumerate(zip(result.names, result.units)):
        command = (
            '-' if result.command_difference is None else f'{result.command_difference[i]:.6f}'
        )
        print(f'{name + " (" + unit + ")":20} {result.chunk_difference[i]:12.6f} {command:>12}')
    if arguments.json:
        arguments.json.write_text(
            json.dumps(
                {
                    'inferences': result.inferences,
                    'approximate_images': result.approximate,
                    'commands': result.commands,
                    'names': result.names,
                    'units': result.units,
                    'chunk_difference': result.chunk_difference.tolist(),
                    'command_difference': None
                    if result.command_difference is None
                    else result.command_difference.tolist(),
                },
                indent=1,
            )
            + '\n',
            'utf-8',
        )
    tolerance = arguments.tolerance
    return 1 if tolerance is not None and result.chunk_difference.max() > tolerance else 0


def _images_line(approximate: int, observations: int) -> str:
    """Say whether the policy sees here what it saw then."""
    if not approximate:
        return 'images: exactly those that the policy saw'
    return (
        f'images: {approximate} of {observations} observations have JPEGs of what the policy saw, '
        'or are decoded otherwise on this machine: differences are approximate, and the same '
        'policy need not give the same actions'
    )
