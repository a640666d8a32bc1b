"""
The model families that this process knows.

A family of this package takes a folder in `families/` and a line here. A family of another package
is named by an entry point of the group `ENTRY_POINTS`, so that every process finds it: the
inference worker, the nodes and the command line. `register_family` adds one to this process alone.
"""

from functools import cache
from importlib.metadata import entry_points
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.models.families.cogact import FAMILY as COGACT
from sqap_vla_ros.models.families.openvla import FAMILY as OPENVLA
from sqap_vla_ros.models.families.pi0 import FAMILY as PI0
from sqap_vla_ros.models.family import Family
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

if TYPE_CHECKING:
    from sqap_vla_ros.models.vla_model import VlaModel

ENTRY_POINTS = 'sqap_vla_ros.families'
"""Group of entry points; the object of each is a `Family`."""

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

    Other processes, such as the inference worker, do not see it: name the family in an entry
    point of the group `sqap_vla_ros.families` where they have to.

    Raises:
        ValueError: another family has this `model_type`.
    """
    known = _families.setdefault(family.model_type, family)
    if known is not family:
        raise ValueError(f'model_type {family.model_type!r} is that of {known.title} already')


def all_families() -> tuple[Family, ...]:
    """List the families in the order of their registration."""
    _load_entry_points()
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
        broken = _load_entry_points()
        if not isinstance(model_type, str) or model_type not in _families:
            raise UserError(
                f'model_type is {shown(model_type)}, expected one of '
                + ', '.join(map(repr, _families))
                + ''.join(f'; {problem}' for problem in broken)
            )
    return _families[model_type]


@cache
def _load_entry_points() -> tuple[str, ...]:
    """Register the families of other packages, once; returns the problems of those that fail."""
    problems = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            family = point.load()
            if not isinstance(family, Family):
                raise TypeError(f'it is a {type(family).__name__}, expected a Family')
            register_family(family)
        except Exception as error:  # foreign code may raise anything; the others still load
            source = point.dist.name if point.dist else 'an installed package'
            reason = ' '.join(str(error).split())[:200] or type(error).__name__
            problems.append(f'family {point.name!r} of {source} cannot be loaded: {reason}')
            logging.getLogger(__name__).warning('%s', problems[-1])
    return tuple(problems)


def titles() -> str:
    """Join the families that can be imported for a message: 'A, B or C'."""
    names = [family.title for family in all_families() if family.open_released is not None]
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
