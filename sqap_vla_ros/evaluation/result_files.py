"""Reads, checks and merges the result files of `sqap_vla evaluate`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sqap_vla_ros.compression.recipe import Recipe
from sqap_vla_ros.compression.recipe_files import load_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import MIB, read_json

RESULT_BYTES = 64 * MIB
"""Of a file of results; an episode takes 0.5 kB."""
_ORIGIN = 'a file of `sqap_vla evaluate --json`'


def _number(value: object) -> bool:
    # Finite, and with a finite square.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e150


def _numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _text(value: object) -> bool:
    return isinstance(value, str)


def _bool(value: object) -> bool:
    return isinstance(value, bool)


_Fields = Mapping[str, Callable[[Any], bool]]
"""Name of a field to the check of its value."""
_EPISODE: _Fields = {
    'variant': _text,
    'baseline': _text,
    'task': _text,
    'seed': lambda value: _number(value) and isinstance(value, int),
    'succeeded': _bool,
    'wrong': _bool,
    'duration_s': _number,
    'tokens_kept': _number,
    'jerk_m_s3': _number,
    'latency_ms': _numbers,
}
_SINCE: _Fields = {'weight_bytes': lambda value: value is None or _number(value)}
"""Fields that files of earlier versions do not have."""
_OPEN_LOOP: _Fields = {
    'frames': _number,
    'action_error': _numbers,
    'attention_overlap': lambda value: value is None or _number(value),
    'layer_error': lambda value: value is None or _numbers(value),
}


def read_results(paths: Iterable[Path]) -> dict[str, list[dict]]:
    """
    Read the episodes of all files.

    An episode that is in several files counts once. Files of `--open-loop` are skipped.

    Returns:
        Baseline ('none' first) to its episodes, in the order of the files.

    Raises:
        UserError: a file is wrong, disagrees with another one about an episode, or is of another
            policy or protocol; names the file and what is wrong.
    """
    episodes: dict[tuple, dict] = {}
    setting = None
    for path in paths:
        data = _read(path)
        if 'open_loop' in data:
            continue
        own = {
            'policy': str(Path(data['experiment']['policy']).resolve()),
            'protocol': data['experiment'].get('protocol'),
        }
        if not _same(setting or own, own):
            raise UserError(
                f'{path}: experiment: policy or protocol differ from those of the '
                'other files; make a report of each'
            )
        setting = own
        for number, episode in enumerate(_list_of_episodes(path, data)):
            _check(f'{path}: episodes[{number}]', episode, _EPISODE)
            _check(f'{path}: episodes[{number}]', {**dict.fromkeys(_SINCE), **episode}, _SINCE)
            key = tuple(episode[name] for name in ('baseline', 'variant', 'task', 'seed'))
            first = episodes.setdefault(key, episode)
            if first['succeeded'] != episode['succeeded']:
                raise UserError(
                    f'{path}: the episode {key} ended otherwise in another file; were '
                    'both made by the same version?'
                )
            if first['latency_ms'].keys() != next(iter(episodes.values()))['latency_ms'].keys():
                raise UserError(
                    f'{path}: episodes[{number}]: latency_ms has other stages than '
                    'the episodes before; make a report of each'
                )
    by_baseline: dict[str, list[dict]] = {'none': []}
    for episode in episodes.values():
        by_baseline.setdefault(episode['baseline'], []).append(episode)
    return {baseline: own for baseline, own in by_baseline.items() if own}


def read_open_loop(paths: Iterable[Path]) -> list[dict]:
    """
    Read the files of `sqap_vla evaluate --open-loop`; all others are skipped.

    Returns:
        One dict per file. 'tasks': names; 'variants': as `open_loop.compare_open_loop` returns
        them.

    Raises:
        UserError: a file is wrong; names the file and what is wrong.
    """
    found = []
    for path in paths:
        data = _read(path)
        if 'open_loop' not in data:
            continue
        variants, tasks = data['open_loop'], data['experiment'].get('tasks')
        if not isinstance(variants, dict):
            raise UserError(f'{path}: "open_loop" is not a mapping; expected {_ORIGIN}')
        if not isinstance(tasks, list) or not all(map(_text, tasks)):
            raise UserError(f'{path}: experiment: "tasks" is missing, expected a list of names')
        for variant, own in variants.items():
            _check(f'{path}: open_loop: {variant}', own, _OPEN_LOOP)
        found.append({'tasks': tasks, 'variants': variants})
    return found


def known_recipe(variant: str) -> Recipe | None:
    """Return the recipe of a variant; None when it is not found (any more)."""
    try:
        return load_recipe(variant)
    except UserError:
        return None


def _same(first: Any, second: Any) -> bool:
    """Compare settings; a setting that an earlier version did not have counts as off."""
    if isinstance(first, dict) and isinstance(second, dict):
        return all(_same(first.get(name), second.get(name)) for name in {**first, **second})
    return first == second or not (first or second)


def _read(path: Path) -> dict[str, Any]:
    data = read_json(path, RESULT_BYTES, _ORIGIN)
    if not isinstance(data.get('experiment'), dict):
        raise UserError(f'{path}: no "experiment"; expected {_ORIGIN}')
    if not isinstance(data['experiment'].get('policy'), str):
        raise UserError(f'{path}: experiment: "policy" is missing, expected a text')
    return data


def _list_of_episodes(path: Path, data: dict[str, Any]) -> list[dict]:
    if not isinstance(data.get('episodes'), list):
        raise UserError(f'{path}: "episodes" is missing, expected a list; {_ORIGIN} has one')
    return data['episodes']


def _check(place: str, data: Any, fields: _Fields) -> None:
    for name, good in fields.items():
        if not isinstance(data, dict) or name not in data or not good(data[name]):
            raise UserError(
                f'{place}: {name!r} is missing or not of the type that `sqap_vla evaluate` writes'
            )
