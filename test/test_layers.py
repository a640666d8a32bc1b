"""The layers: no import upwards and no import circle, not even inside a function."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'sqap_vla_ros'
GENERATED = ('sqap_vla_ros.msg', 'sqap_vla_ros.action')

FLOORS = (
    (
        'errors',
        'files',
        'lifeline',
        'images',
        'input_files',
        'resources',
        'columns',
        'action_chunk',
        'camera',
        'policy',
        'token_geometry',
        'overlay',
        'runtime_options',
    ),
    ('kernels', 'control', 'simulation'),
    ('compression', 'profiles'),
    ('models', 'recording'),
    ('inference', 'training', 'evaluation', 'benchmark'),
    ('ros',),
    ('system',),
    ('commands', 'cli'),
)
"""Layers from the bottom up; each imports from the layers below, and what `SAME_FLOOR` names."""

SAME_FLOOR = {
    'action_chunk': {'columns'},
    'policy': {'action_chunk', 'camera', 'columns', 'token_geometry'},
    'overlay': {'camera', 'policy'},
    'files': {'errors'},
    'images': {'errors'},
    'input_files': {'errors'},
    'columns': {'errors'},
    'resources': {'errors'},
    'commands': set(),
    'cli': {'commands'},
    'training': {'evaluation'},
}
FORBIDDEN = (
    # Only a recipe combines the two parts of SQAP.
    ('sqap_vla_ros.compression.pruning', 'sqap_vla_ros.compression.quantization'),
    ('sqap_vla_ros.compression.quantization', 'sqap_vla_ros.compression.pruning'),
    ('sqap_vla_ros.models.layers', 'sqap_vla_ros.models.families'),
    ('sqap_vla_ros.models.importers', 'sqap_vla_ros.models.families'),
)
"""(who, whom): folders that do not import each other."""
ROS_PACKAGES = ('rclpy', 'std_msgs', 'sensor_msgs', 'geometry_msgs', 'launch', 'launch_ros')


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}


def imports_of(name: str) -> set[str]:
    """Return the modules that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text('utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{name}: relative import'
            for alias in node.names:
                whole = f'{node.module}.{alias.name}'
                found.add(whole if whole in FILES else node.module)
    return found


IMPORTS = {name: imports_of(name) for name in FILES}


def own(modules: set[str]) -> set[str]:
    """Return the modules of this package, without the generated ones."""
    return {
        m for m in modules if m.split('.')[0] == 'sqap_vla_ros' and not m.startswith(GENERATED)
    }


def room(name: str) -> str:
    """Return the top-level folder or file of a module; empty for the package itself."""
    return name.split('.')[1] if '.' in name else ''


def test_every_module_has_a_layer():
    rooms = {room(name) for name in FILES} - {''}
    assert rooms == {name for floor in FLOORS for name in floor}


def test_there_is_no_import_circle():
    assert not [name for name, modules in IMPORTS.items() if name in modules]
    graph = {name: own(modules) for name, modules in IMPORTS.items()}
    graph.pop('sqap_vla_ros')  # the public API, which nothing of the package imports
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail('circle of imports: ' + ' -> '.join(error.args[1]))


@pytest.mark.parametrize('name', [name for name in FILES if name != 'sqap_vla_ros'])
def test_no_arrow_leads_upwards(name):
    floors = {member: level for level, floor in enumerate(FLOORS) for member in floor}
    for target in own(IMPORTS[name]):
        here, there = room(name), room(target)
        if name == 'sqap_vla_ros.kernels.cpu' and not there:
            continue  # finds its library through the package's __path__
        assert there, f'{name} imports the public API; import the module that defines it'
        if here == there:
            continue
        allowed = floors[there] < floors[here] or there in SAME_FLOOR.get(here, ())
        assert allowed, f'{name} imports {target}'


@pytest.mark.parametrize(('who', 'whom'), FORBIDDEN)
def test_folders_that_stay_apart(who, whom):
    for name, modules in IMPORTS.items():
        if name.startswith(who):
            assert not [m for m in modules if m.startswith(whom)], name


def test_only_ros_and_system_import_ros():
    for name, modules in IMPORTS.items():
        if room(name) not in ('ros', 'system'):
            assert not [m for m in modules if m.split('.')[0] in ROS_PACKAGES], name


def test_the_architecture_page_shows_these_layers():
    page = (PACKAGE.parent / 'doc' / 'architecture.md').read_text('utf-8')
    drawn = page.split('\n## Layers\n')[1].split('```')[1].strip().splitlines()
    assert [set(line.split(', ')) for line in reversed(drawn)] == [set(f) for f in FLOORS], (
        'doc/architecture.md, "Layers" differs from FLOORS'
    )
