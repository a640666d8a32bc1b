"""The public API: every name resolves, and importing the package imports nothing heavy."""

import ast
from importlib import import_module
import inspect
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import sqap_vla_ros

from support import api_reference

NAMES = sorted(set(sqap_vla_ros.__all__) - {'__version__'})


def run_python(repository, code):
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_api_has_what_a_user_needs():
    assert {
        'load_policy',
        'compress',
        'load_recipe',
        'find_recipe',
        'Recipe',
        'RuntimeOptions',
        'Policy',
        'PolicySpec',
        'Observation',
        'Inference',
        'ActionChunk',
        'ActionSpec',
        'UserError',
        'Family',
        'register_family',
    } <= set(NAMES)
    assert set(sqap_vla_ros.__all__) <= set(dir(sqap_vla_ros))


@pytest.mark.parametrize('name', NAMES)
def test_each_name_resolves_to_the_module_that_defines_it(name):
    value = getattr(sqap_vla_ros, name)
    module = f'sqap_vla_ros.{sqap_vla_ros._MODULE_OF[name]}'
    assert value is getattr(import_module(module), name)
    assert value.__module__ == module
    assert inspect.getdoc(value), f'{name} has no docstring'


def test_type_checkers_see_the_same_names_in_the_same_modules():
    tree = ast.parse(inspect.getsource(sqap_vla_ros))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and getattr(node.test, 'id', '') == 'TYPE_CHECKING'
    ]
    seen = {
        alias.name: node.module.removeprefix('sqap_vla_ros.')
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == sqap_vla_ros._MODULE_OF
    assert set(seen) == set(NAMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'sqap_vla_ros' has no attribute 'no_such_name'"):
        _ = sqap_vla_ros.no_such_name
    with pytest.raises(ImportError):
        from sqap_vla_ros import no_such_name  # noqa: F401


def test_importing_the_package_imports_nothing_heavy(repository):
    heavy = run_python(
        repository,
        'import sys, sqap_vla_ros\n'
        "heavy = ('torch', 'transformers', 'numpy', 'cv2', 'rclpy')\n"
        'print(*[name for name in heavy if name in sys.modules])',
    )
    assert heavy == []


def test_values_and_recipes_do_not_import_torch(repository):
    code = (
        'import sys\n'
        'from sqap_vla_ros import ActionChunk, Observation, Recipe, RuntimeOptions, load_recipe\n'
        "print('torch' in sys.modules)"
    )
    assert run_python(repository, code) == ['False']


def test_the_version_is_that_of_package_xml(repository):
    written = ElementTree.parse(repository / 'package.xml').findtext('version')
    assert sqap_vla_ros.__version__ == written
    outside = (
        'import sqap_vla_ros\n'
        "sqap_vla_ros.__file__ = '/nowhere/sqap_vla_ros/__init__.py'\n"
        'import importlib.metadata\n'
        "importlib.metadata.version = lambda name: f'{name}-9'\n"
        'print(sqap_vla_ros.__version__)'
    )
    assert run_python(repository, outside) == ['sqap_vla_ros-9']


def test_the_types_are_marked_for_type_checkers(repository):
    assert (repository / 'sqap_vla_ros' / 'py.typed').exists()
    assert 'sqap_vla_ros = py.typed' in (repository / 'setup.cfg').read_text('utf-8')


def test_the_page_of_the_api_is_current(repository):
    written = (repository / 'doc' / 'api.md').read_text('utf-8')
    assert written == api_reference.text(), 'doc/api.md is out of date: run `make docs`'


def test_a_docstring_is_rendered_with_its_sections():
    docstring = (
        'Move the arm.\n\nSlowly.\n\nArgs:\n'
        '    speed: metres a second,\n        at most 1.\n'
        '    frame: name.\n\nReturns:\n    Seconds it took.\n\n'
        'Raises:\n    UserError: the arm is off.\n'
    )
    assert api_reference.prose(docstring) == [
        'Move the arm.',
        '',
        'Slowly.',
        '',
        '**Arguments**',
        '',
        '- `speed`: metres a second, at most 1.',
        '- `frame`: name.',
        '',
        '**Returns**',
        '',
        'Seconds it took.',
        '',
        '**Raises**',
        '',
        '- `UserError`: the arm is off.',
    ]
