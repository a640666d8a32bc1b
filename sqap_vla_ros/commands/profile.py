"""`sqap_vla profile check` tells whether a robot profile is right."""
from pathlib import Path


def add_arguments(parser):
    """Declare the arguments."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    check = actions.add_parser('check', help='report everything that is wrong, with lines')
    check.add_argument('profile', help='file, or the name of one that is shipped')
    check.add_argument('--urdf', type=Path, help="the robot's URDF (not xacro): compare joints, "
                       'limits and frames with it')


def run(arguments) -> int:
    """Print the problems, one a line as FILE:LINE: MESSAGE; returns 1 when there is any."""
    from sqap_vla_ros.profiles.reading import profile_path, read_profile
    from sqap_vla_ros.profiles.urdf import check_against_urdf, notes_on_urdf, read_urdf

    path = profile_path(arguments.profile)
    profile, problems = read_profile(path)
    notes = []
    if arguments.urdf is not None:
        urdf = read_urdf(arguments.urdf)
        if profile is not None:
            problems += check_against_urdf(profile, urdf)
            notes = notes_on_urdf(profile, urdf)
    for problem in sorted(problems, key=lambda problem: problem.line):
        print(f'{path}:{problem.line}: {problem.message}')
    for note in notes:
        print(f'note: {note}')
    if problems:
        count = len(problems)
        print(f'{count} {"problem" if count == 1 else "problems"}')
        return 1
    compared = f', agrees with {arguments.urdf}' if arguments.urdf else ''
    print(f'{path}: {profile.robot}: no problems{compared}')
    if profile.needs_acknowledgement:
        print('It has not run on hardware: the node commands only with '
              'acknowledge_untested_profile:=true.')
    return 0
