"""Result files of `sqap_vla evaluate`: read, checked, merged."""
import json
from pathlib import Path
from typing import Iterable

from sqap_vla_ros.errors import UserError

_FIELDS = {'variant': str, 'baseline': str, 'task': str, 'seed': int, 'succeeded': bool,
           'wrong': bool, 'duration_s': (int, float), 'tokens_kept': (int, float),
           'jerk_m_s3': (int, float), 'latency_ms': dict}


def read_results(paths: Iterable[Path]) -> dict[str, list[dict]]:
    """
    Episodes of all files, by baseline ('none' first), in the order of the files.

    An episode that several files hold counts once. Raises UserError that names the file and what
    is wrong with it, also where files disagree about an episode or are of different policies.
    """
    episodes, policy = {}, None
    for path in paths:
        data = _read(path)
        own = data['experiment']['policy'], data['experiment'].get('protocol')
        if policy not in (None, own):
            raise UserError(f'{path}: policy or protocol differ from those of the other files; '
                            'make a report of each')
        policy = own
        for episode in data['episodes']:
            key = tuple(episode[name] for name in ('baseline', 'variant', 'task', 'seed'))
            if episodes.setdefault(key, episode)['succeeded'] != episode['succeeded']:
                raise UserError(f'{path}: the episode {key} ended otherwise in another file; were '
                                'both made by the same version?')
    by_baseline = {'none': []}
    for episode in episodes.values():
        by_baseline.setdefault(episode['baseline'], []).append(episode)
    return {baseline: own for baseline, own in by_baseline.items() if own}


def _read(path):
    try:
        data = json.loads(Path(path).read_text('utf-8'))
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; expected a file of `sqap_vla evaluate '
                        '--json`') from None
    except ValueError as error:
        raise UserError(f'{path}: no JSON ({error}); expected a file of `sqap_vla evaluate '
                        '--json`') from None
    if not isinstance(data, dict) or not isinstance(data.get('experiment'), dict):
        raise UserError(f'{path}: no "experiment"; expected a file of `sqap_vla evaluate --json`')
    if not isinstance(data['experiment'].get('policy'), str):
        raise UserError(f'{path}: experiment: "policy" is missing, expected a text')
    if not isinstance(data.get('episodes'), list):
        raise UserError(f'{path}: "episodes" is missing, expected a list')
    for number, episode in enumerate(data['episodes']):
        for name, kind in _FIELDS.items():
            if not isinstance(episode, dict) or not isinstance(episode.get(name), kind):
                raise UserError(f'{path}: episodes[{number}]: {name!r} is missing or of another '
                                'kind than `sqap_vla evaluate` writes')
    return data
