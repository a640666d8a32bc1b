"""Style, checked as ament_flake8, ament_pep257 and ament_xmllint check it."""
from pathlib import Path
import subprocess
import sys

import pytest

PYTHON_SOURCES = ('sqap_vla_ros', 'launch', 'test', 'wheels_build', 'setup.py')

# What ament_pep257 (Jazzy) passes to `pydocstyle --ignore`
AMENT_PEP257_IGNORE = 'D100,D101,D102,D103,D104,D105,D106,D107,D203,D212,D404'


def output_of(module: str, repository: Path, *arguments: str) -> str:
    """Run a checker on the sources; returns what it found, empty when nothing."""
    pytest.importorskip(module, reason=f'{module} is not installed')
    finished = subprocess.run(
        [sys.executable, '-m', module, *arguments, *PYTHON_SOURCES], cwd=repository,
        capture_output=True, text=True, check=False)
    assert finished.returncode in (0, 1), finished.stderr
    return finished.stdout


def test_flake8(repository):
    """The configuration is that of ament_flake8; it is in setup.cfg."""
    found = output_of('flake8', repository)
    assert not found, f'\n{found}'


def test_flake8_has_the_plugins_of_ament():
    """Without a plugin its rules would pass unchecked."""
    pytest.importorskip('flake8', reason='flake8 is not installed')
    version = subprocess.run([sys.executable, '-m', 'flake8', '--version'], capture_output=True,
                             text=True, check=True).stdout
    for plugin in ('builtins', 'comprehensions', 'docstrings', 'import-order', 'quotes'):
        assert f'flake8-{plugin}' in version.replace('_', '-'), plugin


def test_pep257(repository):
    found = output_of('pydocstyle', repository, f'--ignore={AMENT_PEP257_IGNORE}')
    assert not found, f'\n{found}'


def xml_files(repository: Path) -> list[Path]:
    """Return the XML files of the source tree."""
    return [repository / 'package.xml', *sorted((repository / 'config').rglob('*.xml'))]


def test_xml_is_well_formed(repository):
    etree = pytest.importorskip('lxml.etree', reason='lxml is not installed')
    for file in xml_files(repository):
        etree.parse(str(file))


def test_package_xml_is_valid(repository):
    """What the schema of package format 3 and catkin_pkg's further rules demand."""
    package = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg is not installed')
    warnings = []
    parsed = package.parse_package(str(repository / 'package.xml'), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert not warnings


def test_dds_profiles_match_fast_dds_schema(repository):
    """Fast DDS ignores what it does not know, so a misspelt element has no effect."""
    etree = pytest.importorskip('lxml.etree', reason='lxml is not installed')
    index = pytest.importorskip('ament_index_python.packages', reason='ROS 2 is not installed')
    # The wheels install the schema where a ROS install has it, but register no such package.
    prefix = index.get_package_prefix('rmw_fastrtps_cpp')
    schema = Path(prefix, 'share', 'fastRTPS_profiles.xsd')
    if not schema.exists():
        pytest.skip(f'{schema} is not installed')
    etree.XMLSchema(etree.parse(str(schema))).assertValid(
        etree.parse(str(repository / 'config' / 'fastdds_shm.xml')))
