"""
doc/api.md, made from the docstrings and signatures of the public API.

Run as a script with the file to write. Signatures, fields and attribute docstrings are read from
the source (ast), because Python keeps no docstrings of attributes.
"""

import ast
import inspect
from pathlib import Path
import re
import sys
import textwrap

import sqap_vla_ros

HEAD = """# Python API

Made by `make docs` from the docstrings. Everything here is imported from the package itself:

```python
from sqap_vla_ros import compress, load_policy, load_recipe, Observation
```

Importing `sqap_vla_ros` imports neither torch nor ROS: each name is imported when it is first
used. Names that are not on this page may move between releases. `examples/` has three complete
programs.
"""
SECTIONS = {
    'Run a policy': (
        'load_policy',
        'RuntimeOptions',
        'Policy',
        'PolicySpec',
        'Observation',
        'PinholeCamera',
        'Continuation',
        'Inference',
        'TokenSelection',
        'TokenGeometry',
        'Criterion',
        'ActionChunk',
        'ActionSpec',
        'draw_overlays',
    ),
    'Compress a policy': (
        'compress',
        'find_recipe',
        'load_recipe',
        'Recipe',
        'QuantizationRecipe',
        'PruningRecipe',
    ),
    'Add a model family': ('Family', 'register_family'),
    'Errors and files': ('UserError', 'find_resource'),
}
WIDTH = 99
PARTS = {'Args:': '**Arguments**', 'Returns:': '**Returns**', 'Raises:': '**Raises**'}


def text() -> str:
    """Return the page: an overview, then every name with its signature and its docstring."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted([*listed, '__version__']) == sorted(sqap_vla_ros.__all__), 'update SECTIONS'
    lines = [HEAD]
    for title, names in SECTIONS.items():
        lines += [f'**{title}**', '']
        lines += [f'- [`{name}`](#{name.lower()}): {summary(name)}' for name in names]
        lines.append('')
    for title, names in SECTIONS.items():
        lines += [f'## {title}', '']
        for name in names:
            lines += [*entry(name), '']
    return '\n'.join(lines).rstrip() + '\n'


def summary(name: str) -> str:
    """First paragraph of the docstring of a public name, on one line."""
    docstring = inspect.getdoc(getattr(sqap_vla_ros, name)) or ''
    return ' '.join(docstring.split('\n\n')[0].split())


def entry(name: str) -> list[str]:
    """Lines for one function or class."""
    value = getattr(sqap_vla_ros, name)
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    module = value.__module__.removeprefix('sqap_vla_ros.').replace('.', '/')
    lines = [f'### {name}', '']
    if isinstance(node, ast.FunctionDef):
        lines += [*signature(node, name), '']
    lines += [*prose(ast.get_docstring(node) or ''), '']
    if isinstance(node, ast.ClassDef):
        lines += class_body(node)
    return [*lines, f'Defined in `{module}.py`.']


def class_body(node: ast.ClassDef) -> list[str]:
    """Lines for the fields, and then for the methods and properties, of a class."""
    lines = []
    listed = fields(node)
    if listed:
        lines += ['**Fields**' if is_dataclass(node) else '**Attributes**', '', *listed, '']
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith('_'):
            lines += [f'#### {node.name}.{method.name}', '']
            if is_property(method):
                lines += [f'Property: `{ast.unparse(method.returns)}`.', '']
            else:
                lines += [*signature(method, method.name), '']
            lines += [*prose(ast.get_docstring(method) or ''), '']
    return lines


def fields(node: ast.ClassDef) -> list[str]:
    """One list item a field: name, type, default and attribute docstring."""
    lines = []
    for statement, following in zip(node.body, [*node.body[1:], None]):
        if isinstance(statement, ast.AnnAssign):
            head = f'{statement.target.id}: {ast.unparse(statement.annotation)}'
            if statement.value is not None:
                head += f' = {default_of(statement.value)}'
        elif isinstance(statement, ast.Assign) and statement.targets[0].id.isupper():
            head = ast.unparse(statement)
        else:
            continue
        described = ''
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            described = ': ' + ' '.join(inspect.cleandoc(following.value.value).split())
        lines.append(f'- `{head}`{described}')
    return lines


def default_of(value: ast.expr) -> str:
    """Return the source of a default; of `field(default_factory=F)`, F()."""
    if isinstance(value, ast.Call) and getattr(value.func, 'id', '') == 'field':
        for keyword in value.keywords:
            if keyword.arg == 'default_factory':
                return f'{ast.unparse(keyword.value)}()'
            if keyword.arg == 'default':
                return ast.unparse(keyword.value)
    return ast.unparse(value)


def signature(node: ast.FunctionDef, name: str) -> list[str]:
    """Return a code block with the signature, one argument a line where it is long."""
    returns = f' -> {ast.unparse(node.returns)}' if node.returns else ''
    arguments = split_arguments(node.args)
    line = f'{name}({", ".join(arguments)}){returns}'
    if len(line) > WIDTH:
        line = '\n'.join([f'{name}(', *(f'    {a},' for a in arguments), f'){returns}'])
    return ['```python', line, '```']


def split_arguments(arguments: ast.arguments) -> list[str]:
    """Return the source of each argument, without self and cls."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    pairs = [(a, d) for a, d in zip(positional, defaults) if a.arg not in ('self', 'cls')]
    parts = [argument(a, d) for a, d in pairs]
    if arguments.vararg:
        parts.append(f'*{argument(arguments.vararg, None)}')
    elif arguments.kwonlyargs:
        parts.append('*')
    parts += [argument(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults)]
    return parts


def argument(node: ast.arg, default: ast.expr | None) -> str:
    """Return the source of one argument."""
    annotation = f': {ast.unparse(node.annotation)}' if node.annotation else ''
    equals = ' = ' if annotation else '='
    return f'{node.arg}{annotation}' + ('' if default is None else equals + ast.unparse(default))


def prose(docstring: str) -> list[str]:
    """Markdown lines of a docstring: paragraphs, and the sections of the Google style as lists."""
    lines, part = [], None
    block: list[str] = []

    def end_part() -> None:
        if part is not None:
            lines.extend(['', PARTS[part], '', *items(block, named=part != 'Returns:')])

    for line in inspect.cleandoc(docstring).splitlines():
        if line.rstrip() in PARTS:
            end_part()
            part, block = line.rstrip(), []
        elif part is not None and (line.startswith(' ') or not line):
            block.append(line)
        elif part is not None:
            end_part()
            part, block = None, []
            lines += ['', line]
        else:
            lines.append(line)
    end_part()
    return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines)).strip('\n').split('\n')


def items(block: list[str], named: bool) -> list[str]:
    """Return the items of an Args or Raises section as a list; a Returns section as it is."""
    body = textwrap.dedent('\n'.join(block)).strip().splitlines()
    if not named:
        return body
    found: list[str] = []
    for line in body:
        match = re.match(r'(\*{0,2}[\w.]+)( \([^)]*\))?: (.*)', line)
        if match:
            found.append(f'- `{match[1]}`{match[2] or ""}: {match[3]}')
        elif found and line.strip():
            found[-1] += f' {line.strip()}'
        elif line.strip():
            found.append(f'- {line.strip()}')
    return found


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is decorated with `dataclass`."""
    return any('dataclass' in ast.unparse(decorator) for decorator in node.decorator_list)


def is_property(node: ast.FunctionDef) -> bool:
    """Whether a method is a property."""
    return any(ast.unparse(decorator) == 'property' for decorator in node.decorator_list)


if __name__ == '__main__':
    Path(sys.argv[1]).write_text(text(), 'utf-8')
