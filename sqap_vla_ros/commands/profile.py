"""`sqap_vla profile`: generate a robot profile, check it, or print its SROS2 policy."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    check = actions.add_parser('check', help='report all problems of a profile, with their lines')
    check.add_argument('profile', help='profile file, or the name of a shipped profile')
    check.add_argument(
        '--urdf',
        type=Path,
        help="the robot's URDF (not xacro), to compare with the profile",
    )
    security = actions.add_parser(
        'security', help='print the SROS2 policy of the policy node on this robot (XML)'
    )
    security.add_argument('profile', help='profile file, or the name of a shipped profile')
    security.add_argument('--namespace', default='', help='namespace of the policy node')
    for what, guess in (
        ('robot', 'those of ros2_control and those that the topics of its outputs name'),
        ('camera', 'the first word of the topic of each camera'),
    ):
        security.add_argument(
            f'--{what}-node',
            action='append',
            default=[],
            metavar='NAME',
            help=f'a node of the {what}, may be repeated; default: {guess}',
        )
    new = actions.add_parser('new', help='generate a first profile from a URDF')
    new.add_argument('urdf', type=Path, help='URDF (not xacro)')
    new.add_argument('output', type=Path, help='profile file to write')
    new.add_argument('--base', required=True, help='link in whose frame commands are expressed')
    new.add_argument('--end-effector', required=True, help='link that the policy moves')
    for end in ('low', 'high'):
        new.add_argument(
            f'--workspace-{end}',
            type=float,
            nargs=3,
            required=True,
            metavar=('X', 'Y', 'Z'),
            help=f'{end}est end-effector position, m, in the base frame',
        )
    new.add_argument('--gripper-joint', help='joint that measures how far the gripper is open')
    for end in ('open', 'closed'):
        new.add_argument(
            f'--gripper-{end}',
            metavar='POSITION',
            help=f'position of this joint when the gripper is {end}, rad or m, or with its unit '
            '(40 mm); without it the profile has a place to fill in',
        )
    new.add_argument('--no-tf', action='store_true', help='take poses from topics instead of TF')


def run(arguments: Namespace) -> int:
    """Run an action; `check` returns 1 when the profile has problems."""
    return {'new': _new, 'check': _check, 'security': _security}[arguments.action](arguments)


def _new(arguments: Namespace) -> int:
    from sqap_vla_ros.errors import one_line, UserError
    from sqap_vla_ros.profiles.document import FILL_IN
    from sqap_vla_ros.profiles.template import new_profile

    if arguments.output.exists():
        raise UserError(f'{arguments.output} exists already; name another file')
    text, notes = new_profile(
        arguments.urdf,
        arguments.base,
        arguments.end_effector,
        arguments.workspace_low,
        arguments.workspace_high,
        arguments.gripper_joint,
        _gripper_ends(arguments),
        not arguments.no_tf,
    )
    try:
        arguments.output.write_text(text, 'utf-8')
    except OSError as error:
        raise UserError(f'{arguments.output}: cannot be written ({error.strerror})') from None
    for note in notes:
        print(one_line(f'note: {note}'))
    fill = f'replace each {FILL_IN} in it, and ' if FILL_IN in text else ''
    print(
        f'wrote {arguments.output}; now {fill}check its topics, and every limit against the data '
        'sheet'
    )
    return 0


def _gripper_ends(arguments: Namespace) -> tuple[str, str] | None:
    from sqap_vla_ros.errors import UserError

    opened, closed = arguments.gripper_open, arguments.gripper_closed
    if opened is None and closed is None:
        return None
    if opened is None or closed is None or arguments.gripper_joint is None:
        raise UserError(
            '--gripper-joint, --gripper-open and --gripper-closed belong together: give all three'
        )
    return opened, closed


def _check(arguments: Namespace) -> int:
    from sqap_vla_ros.errors import one_line
    from sqap_vla_ros.profiles.notes import notes_on
    from sqap_vla_ros.profiles.reading import profile_path, read_profile
    from sqap_vla_ros.profiles.urdf import check_against_urdf, notes_on_urdf, read_urdf

    path = profile_path(arguments.profile)
    profile, problems = read_profile(path)
    notes = [] if profile is None else notes_on(profile)
    if arguments.urdf is not None:
        urdf = read_urdf(arguments.urdf)
        if profile is not None:
            problems += check_against_urdf(profile, urdf)
            notes += notes_on_urdf(profile, urdf)
    for problem in sorted(problems, key=lambda problem: problem.line):
        print(one_line(f'{path}:{problem.line}: {problem.message}'))
    for note in notes:
        print(one_line(f'note: {note}'))
    if profile is None or problems:
        count = len(problems)
        print(f'{count} {"problem" if count == 1 else "problems"}')
        return 1
    compared = f', agrees with {arguments.urdf}' if arguments.urdf else ''
    print(one_line(f'{path}: {profile.robot}: no problems{compared}'))
    if profile.needs_acknowledgement:
        print(
            'It has not run on hardware: the node commands only with '
            'acknowledge_untested_profile:=true.'
        )
    return 0


def _security(arguments: Namespace) -> int:
    from sqap_vla_ros.profiles.reading import load_profile
    from sqap_vla_ros.profiles.security import security_policy

    profile = load_profile(arguments.profile)
    print(
        security_policy(profile, arguments.namespace, arguments.robot_node, arguments.camera_node),
        end='',
    )
    return 0
