"""The `sqap_vla` command line."""

import argparse
from importlib import import_module
from keyword import iskeyword
import os
import sys

from sqap_vla_ros.errors import describe, one_line, UserError
from sqap_vla_ros.runtime_options import stay_offline

TRACEBACK = 'SQAP_VLA_TRACEBACK'
"""Environment variable; where it is set, an unforeseen error shows where it comes from."""
SOFTWARE_ERROR = 70
"""Exit status after an unforeseen error, as in sysexits.h."""
# Modules of sqap_vla_ros.commands, in the order of --help. Only the chosen one is imported, so
# that `sqap_vla inspect` does not pay for a simulator or ROS.
SUMMARIES = {
    'import': 'make a policy from a released OpenVLA, CogACT or pi0 checkpoint',
    'check': 'test whether a policy reacts to image and instruction',
    'recipes': 'list the recipes: what each does, and when to use it',
    'compress': 'compress a policy with a recipe',
    'profile': 'make or check the profile of a robot',
    'inspect': 'print what a compressed policy consists of',
    'train': 'train a policy of the simulated arm from seeds, such as the one that ships',
    'evaluate': 'measure success in the simulation',
    'report': 'make tables and plots of what evaluate found',
    'execution': 'compare inferring while the arm moves with inferring while it stands',
    'demo': 'let the compressed policy drive the simulated arm over ROS topics',
    'replay': 'run a policy again on what the black box recorded',
    'soak': 'let the whole system work for long, with faults at random',
    'bench': 'measure latencies',
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Prints an error as one line; returns 2 where the user can correct it."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog='sqap_vla', description=__doc__)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    chosen = next((word for word in argv if word in SUMMARIES), None)
    commands = {}
    for verb, summary in SUMMARIES.items():
        subparser = verbs.add_parser(verb, help=summary, description=summary)
        if verb == chosen:
            name = f'{verb}_' if iskeyword(verb) else verb
            commands[verb] = import_module(f'sqap_vla_ros.commands.{name}')
            commands[verb].add_arguments(subparser)
    arguments = parser.parse_args(argv)
    if not getattr(arguments, 'allow_download', False):
        stay_offline()
    try:
        return commands[arguments.verb].run(arguments) or 0
    except UserError as error:
        print(f'sqap_vla {arguments.verb}: {error}', file=sys.stderr)
        return 2
    except OSError as error:  # of a file that is written, or a disk that fails
        where = f'{error.filename}: ' if error.filename else ''
        print(
            one_line(f'sqap_vla {arguments.verb}: {where}{error.strerror or error}'),
            file=sys.stderr,
        )
        return 2
    except MemoryError:
        print(f'sqap_vla {arguments.verb}: not enough memory', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'sqap_vla {arguments.verb}: interrupted', file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        print(
            f'sqap_vla {arguments.verb}: error in sqap_vla itself: {describe(error)}; to report '
            f'it, run it again with {TRACEBACK}=1',
            file=sys.stderr,
        )
        return SOFTWARE_ERROR


if __name__ == '__main__':
    sys.exit(main())
