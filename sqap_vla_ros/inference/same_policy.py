"""Whether a policy that is loaded again is the one that was loaded first."""

from collections.abc import Iterator
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.wire import info_to_wire, WorkerInfo

IDENTITY = ('checkpoint', 'recipe', 'sha256', 'weight_bits', 'activation_bits')
"""Keys of `Policy.describe` that tell one policy from another; the others tell how it runs."""
SHOWN = 60
"""Characters of a value that are shown at most."""


class PolicyChanged(UserError):
    """The policy that was loaded again is another one; it must not run in place of the first."""


def require_same(first: WorkerInfo, again: WorkerInfo, where: str) -> None:
    """
    Compare two policies by what their columns mean, their recipe, weights and other files.

    Args:
        first: The policy that everything was configured for.
        again: The one that was loaded later.
        where: Directory of both, for the message.

    Raises:
        PolicyChanged: They are not the same; names the first difference.
    """
    changes = list(_changes(first, again))
    if not changes:
        return
    more = f' (and {len(changes) - 1} more)' if len(changes) > 1 else ''
    raise PolicyChanged(
        f'policy {where}: it was replaced after it had been loaded: {changes[0]}{more}; put the '
        'former policy back if this was not meant, and then deactivate, clean up, configure and '
        'activate the node, which loads what is there by then'
    )


def _changes(first: WorkerInfo, again: WorkerInfo) -> Iterator[str]:
    for before, after in (
        (_flat(info_to_wire(first)['spec']), _flat(info_to_wire(again)['spec'])),
        (_identity(first), _identity(again)),
    ):
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                yield f'{key} was {before.get(key)!r:.{SHOWN}}, is {after.get(key)!r:.{SHOWN}}'
    for name in sorted(first.files.keys() | again.files.keys()):
        if first.files.get(name) != again.files.get(name):
            yield f'file {name} differs'


def _identity(info: WorkerInfo) -> dict[str, Any]:
    return {key: info.description.get(key) for key in IDENTITY}


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = list(value) if isinstance(value, tuple) else value
    return flat
