"""`config.json` of a policy directory, to and from the configuration of its model family."""

from dataclasses import asdict, fields, is_dataclass
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints, TYPE_CHECKING, TypeVar

from sqap_vla_ros.columns import columns_from_plain, columns_from_units
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json
from sqap_vla_ros.models.family import CONFIG_FILE
from sqap_vla_ros.models.registry import all_families, build_model, family_of

if TYPE_CHECKING:
    from sqap_vla_ros.models.vla_model import VlaModel

Config = TypeVar('Config')


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
        return build_config(family.config, _with_columns(family.config, data))
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: {error}') from None


def _with_columns(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """
    Check the columns of a configuration, and describe those that have only names and units.

    Raises:
        ValueError: names the field and the column that is wrong.
    """
    data = dict(data)
    for part in {'state', 'action'} & {field.name for field in fields(kind)}:
        names, units = (data.pop(f'{part}_{what}', None) for what in ('names', 'units'))
        if isinstance(names, list) and isinstance(units, list):
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
    return data


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


def build_config(kind: type[Config], data: dict[str, Any]) -> Config:
    """
    Build a dataclass from plain data; fields that are dataclasses, or tuples of them, as well.

    Raises:
        TypeError: a field is unknown or missing.
    """
    if not isinstance(data, dict):
        raise TypeError(f'expected an object with the fields of {kind.__name__}, got {data!r}')
    unknown = sorted(set(data) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise TypeError(f'unknown field {unknown[0]!r} in {kind.__name__}')
    types = get_type_hints(kind)
    return kind(**{name: _build_field(types[name], value) for name, value in data.items()})


def _build_field(declared: Any, value: Any) -> Any:
    if isinstance(declared, type) and is_dataclass(declared):
        return build_config(declared, value)
    if not isinstance(value, list):
        return value
    items = get_args(declared)[:1]
    return tuple(_build_field(items[0], item) if items else item for item in value)
