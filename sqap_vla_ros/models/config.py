"""`config.json` of a policy directory, to and from the configuration of its model family."""

from collections.abc import Collection
from dataclasses import asdict, fields, is_dataclass
import json
import math
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, TYPE_CHECKING, TypeVar

from sqap_vla_ros.columns import columns_from_plain, columns_from_units
from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import read_json
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.importers.datasets import LARGEST_SCALE, LONGEST_S, SHORTEST_S
from sqap_vla_ros.models.registry import all_families, build_model, family_of
from sqap_vla_ros.profiles.names import plain_name

if TYPE_CHECKING:
    from sqap_vla_ros.models.vla_model import VlaModel

Config = TypeVar('Config')
_TYPES: dict[Any, tuple[str, Any]] = {
    bool: ('true or false', bool),
    int: ('a whole number', int),
    float: ('a number', (int, float)),
    str: ('text', str),
    dict: ('an object', dict),
    tuple: ('a list', (list, tuple)),
}
"""Declared type of a field to its name in messages and the types of JSON that it takes."""


MOST_CAMERAS = 16
LARGEST_WHOLE = 2**53
"""A larger number in a configuration is none that it could mean."""
_ADDED = {
    'action_scale',
    'action_offset',
    'preprocessing',
    'letterbox_bars',
    'bfloat16_tables',
    'relative_actions',
}
"""
Fields that `config.json` did not have while it gave names and units in place of columns.

Their defaults are what such policies did.
"""
OPTIONAL = 'optional'
"""
Key in the metadata of a field that may be missing in `config.json`.

For a field that a family adds later: `field(default=..., metadata={OPTIONAL: True})`.
"""


def save_config(config: Any, directory: Path) -> None:
    """Write `config.json` of a family's configuration."""
    text = json.dumps(asdict(config), indent=2)
    (Path(directory) / CONFIG_FILE).write_text(text + '\n', 'utf-8')


def load_config(directory: Path) -> Any:
    """
    Read `config.json`.

    Returns:
        The configuration, of the class that the family with its `model_type` declares.

    Raises:
        UserError: names the file and the field.
    """
    path = Path(directory) / CONFIG_FILE
    data = read_json(path)
    if any(family.recognises(data) for family in all_families()):
        raise UserError(
            f'{path}: a released checkpoint, not a policy of this package; import it with: '
            'sqap_vla import'
        )
    try:
        family = family_of(data.get('model_type'))
    except UserError as error:
        raise UserError(f'{path}: {error}') from None
    try:
        columns, added = _with_columns(family.config, data)
        config: Any = build_config(family.config, columns, added)
        check_interface(config)
        return config
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: {error}') from None


def _with_columns(kind: type, data: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """
    Check the columns of a configuration, and describe those that have only names and units.

    Returns:
        The configuration with columns, and the names of fields that it may lack.

    Raises:
        ValueError: names the field and the column that is wrong.
    """
    data, added = dict(data), set()
    for part in {'state', 'action'} & {field.name for field in fields(kind)}:
        names, units = (data.pop(f'{part}_{what}', None) for what in ('names', 'units'))
        if names is not None or units is not None:
            added |= _ADDED
            if part in data:
                raise ValueError(f'has both {part} and {part}_names or {part}_units; give one')
            if not _is_texts(names) or not _is_texts(units):
                raise ValueError(f'{part}_names and {part}_units must be lists of texts')
            columns = columns_from_units(names, units)
            data[part] = [asdict(column) for column in columns]
        try:
            found = columns_from_plain(data.get(part, []))
        except ValueError as error:
            raise ValueError(f'{part}: {error}') from None
        listed = [column.name for column in found]
        repeated = sorted({name for name in listed if listed.count(name) > 1})
        if repeated:
            raise ValueError(f'{part}: column {repeated[0]!r} is there more than once')
    return data, added


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def check_interface(config: Any) -> None:
    """
    Check the fields that every family has, and that depend on each other.

    Raises:
        ValueError: names the field and what was expected.
    """
    cameras = config.cameras
    if len(cameras) > MOST_CAMERAS:
        raise ValueError(f'cameras has {len(cameras)} names, expected at most {MOST_CAMERAS}')
    if not cameras or len(set(cameras)) != len(cameras):
        raise ValueError(
            f'cameras is {shown(list(cameras))}, expected one or more different names'
        )
    for camera in cameras:
        if not camera or plain_name(camera):
            raise ValueError(f'cameras: {shown(camera)} is no name: {plain_name(camera)}')
    if not SHORTEST_S <= config.step_s <= LONGEST_S:
        raise ValueError(f'step_s is {config.step_s:g}, expected {SHORTEST_S:g} .. {LONGEST_S:g}')
    columns = len(getattr(config, 'action', ()))
    for name in ('action_scale', 'action_offset', 'relative_actions'):
        values = getattr(config, name, ())
        if columns and values and len(values) != columns:
            raise ValueError(f'{name} has {len(values)} values, expected {columns} or none')
    if not all(0 < abs(scale) <= LARGEST_SCALE for scale in config.action_scale):
        raise ValueError(f'action_scale has values that are 0 or beyond {LARGEST_SCALE:g}')
    if not all(math.isfinite(offset) for offset in config.action_offset):
        raise ValueError('action_offset has values that are not finite')


def model_without_weights(config: Any, where: Path) -> 'VlaModel':
    """
    Build the module tree of a configuration on the meta device, where tensors have no storage.

    Args:
        config: of any family.
        where: the file or folder that the configuration comes from, for messages.

    Raises:
        UserError: no model can be built with these values.
    """
    import torch

    try:
        with torch.device('meta'):
            return build_model(config)
    except UserError:
        raise
    except Exception as error:  # the classes of transformers raise many kinds
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{where}: no model can be built with its values: {reason}') from None


def build_config(kind: type[Config], data: dict[str, Any], added: Collection[str] = ()) -> Config:
    """
    Build a dataclass from plain data; fields that are dataclasses, or tuples of them, as well.

    Defaults are not used: what this package wrote has every field, so one that is missing was
    removed, and nobody knows its value.

    Args:
        kind: the dataclass.
        data: its fields.
        added: names of fields that may be missing, as those with `OPTIONAL` in their metadata.

    Raises:
        TypeError: a field is unknown, missing or of another type.
    """
    if not isinstance(data, dict):
        raise TypeError(
            f'expected an object with the fields of {kind.__name__}, got {shown(data)}'
        )
    unknown = sorted(set(data) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise TypeError(f'unknown field {shown(unknown[0])} in {kind.__name__}')
    missing = [
        spec.name
        for spec in fields(kind)  # type: ignore[arg-type]
        if spec.name not in {*data, *added} and not spec.metadata.get(OPTIONAL)
    ]
    if missing:
        raise TypeError(
            f'field {missing[0]!r} of {kind.__name__} is missing; import the policy again, or '
            'restore the file'
        )
    types = get_type_hints(kind)
    return kind(**{name: _build_field(name, types[name], value) for name, value in data.items()})


def _build_field(name: str, declared: Any, value: Any) -> Any:
    if isinstance(declared, type) and is_dataclass(declared):
        return build_config(declared, value)
    kind = get_origin(declared) or declared
    if kind in _TYPES:
        word, accepted = _TYPES[kind]
        if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
            raise TypeError(f'{name} is {shown(value)}, expected {word}, at most 2^53')
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f'{name} is {shown(value)}, expected {word}')
    if kind is not tuple:
        return value
    items = get_args(declared)[:1]
    return tuple(_build_field(name, items[0], item) if items else item for item in value)
