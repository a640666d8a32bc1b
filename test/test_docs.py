"""Links of the documentation lead somewhere, and what it names exists."""

import ast
from pathlib import Path
import re

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
ARCHITECTURE = REPOSITORY / 'doc' / 'architecture.md'
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


def section(page, heading):
    """Text of a page below a heading of the second level."""
    return page.read_text('utf-8').split(f'\n## {heading}\n')[1].split('\n## ')[0]


def defined_names(file):
    """Classes, functions, methods and assigned names of a Python file."""
    for node in ast.walk(ast.parse(file.read_text('utf-8'))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


PLACES = re.findall(
    r'`([\w/.]*(?:/|\.\w+))`(?:: `(\w+)`)?',
    section(ARCHITECTURE, 'Where is ...').split('| --- |')[-1],
)
"""(path, name or '') of the table of places in the code."""


@pytest.mark.parametrize(('path', 'name'), PLACES, ids=[path for path, _ in PLACES])
def test_places_that_the_architecture_names_exist(path, name):
    row = 'doc/architecture.md, table "Where is ...": '
    found = [root / path for root in (REPOSITORY / 'sqap_vla_ros', REPOSITORY)]
    found = [file for file in found if file.exists()]
    assert found, f'{row}{path} does not exist; name the file that now answers the question'
    if name:
        assert name in defined_names(found[0]), (
            f'{row}{path} does not define {name}; name the file or the definition that now does'
        )


def test_the_architecture_answers_every_question():
    questions = section(ARCHITECTURE, 'Where is ...')
    for subject in (
        'real-time chunking',
        'model family',
        'output adapter',
        'token budget',
        'clip search',
        'denoising steps',
        'graph capture',
        'published',
        'joint limiter',
        'stale-input timeout',
        'checkpoint format',
        'from Python',
    ):
        (line,) = [line for line in questions.splitlines() if subject in line.split('?')[0]]
        assert re.search(r'`[\w/.]+(?:/|\.py)`', line), line
