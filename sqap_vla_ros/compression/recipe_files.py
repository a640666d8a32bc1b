"""
Recipes as YAML: reading, writing, and the recipes that come with the package.

`config/recipes/` has the recipes for users. Its folder `experiments/` has those that measurements
compare with them. All are found by name. What a recipe is and when to use it is written at the
head of its file, in comment lines `# What: ...` and `# When: ...`; they are no fields, because
fields become part of compressed checkpoints.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, Field, fields
import math
from pathlib import Path
from typing import Any, get_args, TypeVar

import yaml

from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import exists, read_text, read_yaml, YAML_BYTES
from sqap_vla_ros.resources import find_resource

RECIPE_FILE = 'recipe.yaml'
"""Name of the recipe in the directory of a compressed policy."""
FOLDER = 'config/recipes'
EXPERIMENTS = 'experiments'

_PARTS = {'quantization': QuantizationRecipe, 'pruning': PruningRecipe}
_Kind = TypeVar('_Kind', QuantizationRecipe, PruningRecipe, Recipe)


@dataclass(frozen=True)
class RecipeSummary:
    """A recipe of the package, for a list."""

    name: str
    what: str
    """What the recipe does; empty where its file does not say."""
    when: str
    """When to use it; empty for the recipes of experiments."""


def package_recipes(experiments: bool = False) -> list[RecipeSummary]:
    """
    List the recipes that come with the package.

    Args:
        experiments: the recipes of the experiments in place of those for users.

    Returns:
        One summary per recipe, in the order of the names.

    Raises:
        UserError: the package's recipes are not found.
    """
    folder = find_resource(FOLDER)
    paths = (folder / EXPERIMENTS if experiments else folder).glob('*.yaml')
    return [_summary(path) for path in sorted(paths)]


def find_recipe(name: str | Path) -> Path:
    """
    Find the file of a recipe.

    Args:
        name: a file, or the name of a recipe that comes with the package.

    Returns:
        Path of the file; a path with a suffix is returned as it is, whether it exists or not.

    Raises:
        UserError: the package has no recipe of this name; lists the names.
    """
    path = Path(name)
    if path.suffix or exists(path):
        return path
    folder = find_resource(FOLDER)
    for place in (folder, folder / EXPERIMENTS):
        if exists(place / f'{name}.yaml'):
            return place / f'{name}.yaml'
    names = ', '.join(sorted(file.stem for file in folder.glob('*.yaml')))
    raise UserError(
        f'recipe {shown(str(name))}: no such file; recipes of the package: {names}; '
        '`sqap_vla recipes --all` lists those of the experiments too'
    )


def load_recipe(path: str | Path) -> Recipe:
    """
    Read a recipe.

    Args:
        path: a YAML file, or the name of a recipe that comes with the package.

    Returns:
        The recipe; fields that the file does not name have their defaults.

    Raises:
        UserError: the file is missing or not YAML, has an unknown key or a wrong value; names
            the file and the key. Or the package has no recipe of this name.
    """
    path = find_recipe(path)
    try:
        data = read_yaml(path, 'a recipe')
    except UserError as error:
        raise UserError(f'recipe {error}') from None
    return recipe_from_dict({} if data is None else data, f'recipe {path}')


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """
    Write a recipe as YAML, with all fields.

    Args:
        recipe: to write.
        path: file; replaced if it exists.
    """
    Path(path).write_text(yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False), 'utf-8')


def recipe_from_dict(data: object, source: str = 'recipe') -> Recipe:
    """
    Build a recipe from plain data, as YAML gives it.

    Args:
        data: mapping of the fields of `Recipe`; `quantization` and `pruning` are mappings too.
        source: where the data come from, for messages.

    Returns:
        The recipe.

    Raises:
        UserError: an unknown key or a wrong value; names it and `source`.
    """
    values = dict(_mapping(data, source))
    for part, kind in _PARTS.items():
        value = values.pop(part, None)
        if value is not None:
            place = f'{source}: {part}'
            values[part] = _build(kind, _mapping(value, place), place)
    return _build(Recipe, values, source)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """
    Convert a recipe to plain data.

    Args:
        recipe: to convert.

    Returns:
        Data that YAML and JSON can write and `recipe_from_dict` turns back into an equal recipe.
    """
    data = asdict(recipe)
    if data['quantization']:
        data['quantization']['targets'] = list(data['quantization']['targets'])
    return data


def _summary(path: Path) -> RecipeSummary:
    head = {'What': '', 'When': ''}
    for line in read_text(path, YAML_BYTES, 'a recipe').splitlines():
        if not line.startswith('#'):
            break
        key, _, text = line.removeprefix('#').partition(':')
        if key.strip() in head:
            head[key.strip()] = text.strip()
    return RecipeSummary(path.stem, head['What'], head['When'])


def _mapping(data: object, source: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise UserError(
            f'{source}: expected a mapping of keys to values, got {type(data).__name__}'
        )
    return data


def _build(kind: type[_Kind], data: Mapping[str, Any], source: str) -> _Kind:
    known = {spec.name: spec for spec in fields(kind)}
    for key in data:
        if key not in known:
            raise UserError(f'{source}: unknown key {shown(key)}; known keys: {", ".join(known)}')
    values = {key: _checked(known[key], value, source) for key, value in data.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f'{source}: {error}') from None


def _checked(spec: Field[Any], value: Any, source: str) -> Any:
    """Check the plain types here, so that dataclasses compare numbers with numbers only."""
    kind: Any = spec.type
    if kind == tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise UserError(f'{source}: {spec.name} is {shown(value)}, expected a list of names')
    if kind in (QuantizationRecipe | None, PruningRecipe | None):
        return value
    allowed = get_args(kind) or (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**53 else math.inf
    if isinstance(value, allowed) and (kind is bool or not isinstance(value, bool)):
        return value
    name = ' or '.join('null' if t is type(None) else t.__name__ for t in allowed)
    raise UserError(f'{source}: {spec.name} is {shown(value)}, expected {name}')
