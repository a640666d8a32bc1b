"""Style of the sources, as ruff and the schemas of XML files have it."""

from pathlib import Path
import subprocess
import sys

import pytest


def run_ruff(repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run ruff on the repository; pyproject.toml has the settings."""
    pytest.importorskip('ruff', reason='ruff is not installed (requirements/lint.txt)')
    return subprocess.run(
        [sys.executable, '-m', 'ruff', *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_lint(repository):
    done = run_ruff(repository, 'check', '--output-format=concise')
    assert done.returncode == 0, f'\n{done.stdout}{done.stderr}'


def test_formatted(repository):
    done = run_ruff(repository, 'format', '--check')
    assert done.returncode == 0, f'\n{done.stdout}{done.stderr}'


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
        etree.parse(str(repository / 'config' / 'fastdds_shm.xml'))
    )
