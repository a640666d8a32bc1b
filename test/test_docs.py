"""Links of the documentation lead somewhere, and what it names exists."""

from pathlib import Path
import re

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(REPOSITORY / 'doc').glob('*.md'),
        *REPOSITORY.glob('*.md'),
        *(REPOSITORY / 'policies').rglob('*.md'),
    ]
)


def text_of(page):
    """Text of a page without its code blocks."""
    return re.sub(r'```.*?```', '', page.read_text('utf-8'), flags=re.DOTALL)


def anchors(page):
    """Anchors that the headings of a page get."""
    titles = re.findall(r'^#+ (.+)$', text_of(page), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_to_files_and_headings(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', text_of(page)):
        if re.match(r'\w+:', target):
            continue
        name, _, anchor = target.partition('#')
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f'{page.name}: {target}'
        if anchor:
            assert anchor in anchors(path), f'{page.name}: {target}'


def test_the_navigation_names_all_pages():
    navigation = yaml.safe_load((REPOSITORY / 'mkdocs.yml').read_text('utf-8'))['nav']
    named = {page for entry in navigation for page in entry.values()}
    assert named == {page.name for page in (REPOSITORY / 'doc').glob('*.md')}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_launch_files_programs_and_tests_that_are_named_exist(page):
    text = page.read_text('utf-8')
    for name in re.findall(r'\b(\w+\.launch\.py)\b', text):
        assert (REPOSITORY / 'launch' / name).exists(), name
    cmake = (REPOSITORY / 'CMakeLists.txt').read_text('utf-8')
    for name in re.findall(r'ros2 run sqap_vla_ros (\w+)', text):
        assert f'install_python_program({name} ' in cmake, name
    for name in re.findall(r'\btest/[\w/]+\.py\b', text):
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_source_files_that_are_named_exist(page):
    for name in re.findall(r'`([\w/]+/\w+\.py)`', page.read_text('utf-8')):
        roots = (REPOSITORY, REPOSITORY / 'sqap_vla_ros')
        assert any((root / name).exists() for root in roots), f'{page.name}: {name}'


def test_names_that_pages_import_are_public():
    import sqap_vla_ros

    for page in PAGES:
        for names in re.findall(r'^from sqap_vla_ros import (.+)$', page.read_text('utf-8'), re.M):
            assert set(names.split(', ')) <= set(sqap_vla_ros.__all__), (page.name, names)


def test_verbs_of_the_command_line_that_are_named_exist():
    from sqap_vla_ros.cli import SUMMARIES

    for page in PAGES:
        for verb in re.findall(r'^sqap_vla (\w+)', page.read_text('utf-8'), re.MULTILINE):
            assert verb in SUMMARIES, (page.name, verb)
