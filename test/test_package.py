"""The package's descriptions agree with each other and with the files."""

import ast
import configparser
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

HOOK_PACKAGES = {'ruff-pre-commit': 'ruff', 'mirrors-clang-format': 'clang-format'}
"""Repository of pre-commit hooks to the package in requirements/lint.txt that it wraps."""
SHARED_FOLDERS = ('config', 'doc', 'launch', 'policies')


@pytest.fixture(scope='module')
def cmake(repository) -> str:
    """Text of CMakeLists.txt."""
    return (repository / 'CMakeLists.txt').read_text('utf-8')


@pytest.fixture(scope='module')
def manifest(repository) -> ElementTree.Element:
    """Root element of package.xml."""
    return ElementTree.parse(repository / 'package.xml').getroot()


@pytest.fixture(scope='module')
def setup_options(repository) -> configparser.SectionProxy:
    """Section [options] of setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(repository / 'setup.cfg', 'utf-8')
    return parser['options']


def requirements(text: str) -> dict[str, str]:
    """Name to version specifier of the lines of a requirement list, without comments."""
    lines = [line.split('#')[0].strip() for line in text.splitlines()]
    return dict(
        re.fullmatch(r'([\w.\-]+(?:\[\w+\])?)(.*)', line).groups() for line in lines if line
    )


def requirement_file(repository: Path, name: str) -> dict[str, str]:
    """Read a file of requirements/."""
    return requirements((repository / 'requirements' / name).read_text('utf-8'))


def test_cmake_generates_exactly_the_interfaces_that_exist(repository, cmake):
    named = set(re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', cmake))
    existing = {
        str(path.relative_to(repository))
        for folder in ('msg', 'srv', 'action')
        for path in (repository / folder).glob('*.*')
    }
    assert named == existing


def test_programs_start_a_main_that_exists(repository, cmake):
    programs = dict(re.findall(r'install_python_program\((\w+) \$\{PROJECT_NAME\}\.(\S+)', cmake))
    assert set(programs) == {
        'sim_arm_node',
        'policy_node',
        'bag_player_node',
        'fake_robot_node',
        'fault_injector_node',
        'sqap_vla',
    }
    for module in programs.values():
        path = repository / 'sqap_vla_ros' / f'{module.replace(".", "/")}.py'
        functions = [
            node.name
            for node in ast.parse(path.read_text('utf-8')).body
            if isinstance(node, ast.FunctionDef)
        ]
        assert 'main' in functions, path


def test_launch_files_start_programs_that_are_installed(repository, cmake):
    for path in (repository / 'launch').glob('*.launch.py'):
        text = path.read_text('utf-8')
        started = re.findall(r"package=PACKAGE,\s+executable='(\w+)'", text)
        assert started or 'sqap_vla_ros.ros.launching' in text, path
        for program in started:
            assert f'install_python_program({program} ' in cmake, (path, program)


def test_launch_files_name_configuration_that_exists(repository):
    for path in (repository / 'launch').glob('*.launch.py'):
        for name in re.findall(r"'([\w.]+\.(?:yaml|xml))'", path.read_text('utf-8')):
            folder = 'config/gazebo' if path.name.startswith('gazebo') else 'config'
            assert name == 'recipe.yaml' or (repository / folder / name).exists(), (path, name)


def test_setup_takes_the_version_of_package_xml(repository, manifest):
    finished = subprocess.run(
        [sys.executable, 'setup.py', '--version'],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.split()[-1] == manifest.findtext('version')


def test_console_entry(repository, setup_options):
    parser = configparser.ConfigParser()
    parser.read(repository / 'setup.cfg', 'utf-8')
    assert parser['options.entry_points']['console_scripts'].strip() == (
        'sqap_vla = sqap_vla_ros.cli:main'
    )


def test_torch_is_pinned_for_ci_and_a_range_for_users(repository, setup_options):
    assert requirement_file(repository, 'torch.txt') == {'torch': '==2.13.0'}
    assert requirements(setup_options['install_requires'])['torch'] == '>=2.6,<3'


def test_runtime_requirements_agree_with_the_metadata(repository, setup_options):
    metadata = requirements(setup_options['install_requires'])
    del metadata['torch']
    runtime = requirement_file(repository, 'runtime.txt')
    assert metadata.items() <= runtime.items()


def test_ros_wheels_are_pinned(repository):
    for name, specifier in requirement_file(repository, 'ros-jazzy-wheels.txt').items():
        assert not name.startswith('ros-') or specifier.startswith('=='), name


def test_pre_commit_hooks_have_the_pinned_versions(repository):
    config = yaml.safe_load((repository / '.pre-commit-config.yaml').read_text('utf-8'))
    revisions = {entry['repo'].rsplit('/')[-1]: entry.get('rev') for entry in config['repos']}
    pinned = requirement_file(repository, 'lint.txt')
    for repo, package in HOOK_PACKAGES.items():
        assert revisions[repo] == pinned[package].replace('==', 'v'), package
    assert set(revisions) == {*HOOK_PACKAGES, 'local'}


def test_lint_requirements_are_pinned(repository):
    for name, specifier in requirement_file(repository, 'lint.txt').items():
        assert specifier.startswith('=='), name


def test_every_imported_ros_package_is_a_dependency(repository, manifest):
    declared = {element.text for element in manifest if element.tag.endswith('depend')}
    ros_name = re.compile(
        r'\w+_msgs|\w+_srvs|\w+_interfaces|rclpy|tf2_ros|launch|launch_ros|'
        r'cv_bridge|ament_index_python'
    )
    imported = {}
    for folder in ('sqap_vla_ros', 'launch'):
        for path in (repository / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text('utf-8'))):
                names = (
                    [node.module]
                    if isinstance(node, ast.ImportFrom)
                    else (
                        [alias.name for alias in node.names]
                        if isinstance(node, ast.Import)
                        else []
                    )
                )
                for name in names:
                    imported[(name or '').split('.')[0]] = path
    used = {name: path for name, path in imported.items() if ros_name.fullmatch(name)}
    assert 'rclpy' in used and 'launch_ros' in used
    assert {name: path for name, path in used.items() if name not in declared} == {}


def test_installed_share_has_the_files(repository):
    index = pytest.importorskip('ament_index_python.packages', reason='ROS 2 is not installed')
    try:
        share = Path(index.get_package_share_directory('sqap_vla_ros'))
    except index.PackageNotFoundError:
        pytest.skip('the package is not installed')
    for folder in SHARED_FOLDERS:
        for path in (repository / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                name = path.relative_to(repository)
                assert (share / name).exists(), f'{name} is not in {share}: run `make setup`'


def test_installed_programs_are_executable():
    index = pytest.importorskip('ament_index_python.packages', reason='ROS 2 is not installed')
    try:
        prefix = Path(index.get_package_prefix('sqap_vla_ros'))
    except index.PackageNotFoundError:
        pytest.skip('the package is not installed')
    for name in ('lib/sqap_vla_ros/sim_arm_node', 'lib/sqap_vla_ros/policy_node', 'bin/sqap_vla'):
        finished = (
            subprocess.run([prefix / name, '--help'], capture_output=True, text=True, check=False)
            if name.startswith('bin')
            else None
        )
        assert (prefix / name).stat().st_mode & 0o111, name
        assert finished is None or finished.returncode == 0, finished.stderr
