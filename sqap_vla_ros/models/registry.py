"""The model families that this process knows; one in this package takes a folder and a line."""

from pathlib import Path
from typing import Any, TYPE_CHECKING

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.families.cogact import FAMILY as COGACT
from sqap_vla_ros.models.families.openvla import FAMILY as OPENVLA
from sqap_vla_ros.models.families.pi0 import FAMILY as PI0
from sqap_vla_ros.models.family import Family
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

if TYPE_CHECKING:
    from sqap_vla_ros.models.vla_model import VlaModel

_families: dict[str, Family] = {
    family.model_type: family
    for family in (
        COGACT,
        OPENVLA,
        PI0,
    )
}


def register_family(family: Family) -> None:
    """
    Add a family to this process; its policies then load, import, compress and run like others.

    Raises:
        ValueError: another family has this `model_type`.
    """
    known = _families.setdefault(family.model_type, family)
    if known is not family:
        raise ValueError(f'model_type {family.model_type!r} is that of {known.title} already')


def all_families() -> tuple[Family, ...]:
    """List the families in the order of their registration."""
    return tuple(_families.values())


def family_of(model_type: object) -> Family:
    """
    Look a family up.

    Args:
        model_type: the field of `config.json`.

    Raises:
        UserError: there is no such family; the message lists them.
    """
    if not isinstance(model_type, str) or model_type not in _families:
        raise UserError(
            f'model_type is {model_type!r}, expected one of {", ".join(map(repr, _families))}'
        )
    return _families[model_type]


def titles() -> str:
    """Join the families that can be imported for a message: 'A, B or C'."""
    names = [family.title for family in _families.values() if family.open_released is not None]
    return ' or '.join([', '.join(names[:-1]), *names[-1:]]) if len(names) > 1 else ''.join(names)


def build_model(config: Any) -> 'VlaModel':
    """Build the module tree of a configuration; weights are random, or on the meta device."""
    return family_of(config.model_type).model(config)


def make_policy(
    model: 'VlaModel',
    directory: Path,
    description: dict[str, Any],
    runtime: RuntimeOptions = RuntimeOptions(),
) -> Policy:
    """
    Put a loaded model behind the policy interface.

    Args:
        model: on its device; its `config` says of which family it is.
        directory: policy directory; tokenizer and statistics are read from there.
        description: what `Policy.describe` returns, beside how the policy runs.
        runtime: how the policy runs.

    Raises:
        UserError: names the file or field that is wrong.
    """
    return family_of(model.config.model_type).make_policy(model, directory, description, runtime)
