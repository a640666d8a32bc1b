"""
What lerobot does before and after a policy: the two pipelines beside its weights.

Every step of them is read, and what contradicts another file is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.lerobot_statistics import (
    dataset_names,
    feature_statistics,
    read_state_file,
)
from sqap_vla_ros.models.importers.lerobot_steps import (
    AFTER,
    BEFORE,
    one_step,
    read_steps,
    Step,
    whole_number,
)
from sqap_vla_ros.models.preprocessing.normalisation import (
    FIELDS,
    LEROBOT,
    make_normalisation,
    Normalisation,
)

PREPROCESSOR_FILE = 'policy_preprocessor.json'
POSTPROCESSOR_FILE = 'policy_postprocessor.json'
STATE, ACTION = 'observation.state', 'action'
CONFIG_FILE = 'config.json'
EPSILON = 1e-8
"""lerobot's own where a step does not say it."""


@dataclass(frozen=True)
class LerobotPipelines:
    """Both pipelines, in this package's terms."""

    state: Normalisation
    """Of the state; its statistics are the preprocessor's."""
    action: Normalisation
    """Of the actions; their statistics are the postprocessor's."""
    relative: tuple[bool, ...]
    """Which action columns are offsets from the same column of the state."""
    action_names: tuple[str, ...]
    """Names of the action columns in the training data; empty: not stored."""
    sources: Mapping[str, tuple[str, ...]]
    """Name of a feature to the names that an observation may have for it, where renamed."""
    text_length: int
    """Tokens of the prompt at most."""
    dataset: str | None
    """Key of the dataset that the statistics are stored under; None: under none."""


def read_pipelines(
    folder: Path, config: Mapping[str, Any], actions: int | None, dataset: str | None
) -> LerobotPipelines:
    """
    Read both pipelines of a folder.

    Args:
        folder: of the checkpoint.
        config: its `config.json`.
        actions: number of action columns; None: as many as the statistics have.
        dataset: key of the statistics that the user chose, where they are stored under several.

    Raises:
        UserError: names the file, the step and the setting that is missing, not supported or
            contradicted elsewhere.
    """
    before = read_steps(folder / PREPROCESSOR_FILE, BEFORE)
    after = read_steps(folder / POSTPROCESSOR_FILE, AFTER)
    normalizer = one_step(folder / PREPROCESSOR_FILE, before, 'normalizer_processor')
    unnormalizer = one_step(folder / POSTPROCESSOR_FILE, after, 'unnormalizer_processor')
    tokenizer = one_step(folder / PREPROCESSOR_FILE, before, 'tokenizer_processor')
    _check_newline(folder / PREPROCESSOR_FILE, before, tokenizer)
    _check_modes(folder, config, normalizer, unnormalizer)
    sources = _sources(folder / PREPROCESSOR_FILE, before, normalizer)
    states = _columns(config, 'input_features', STATE)
    state = _normalisation(folder, normalizer, STATE, 'STATE', config, states, dataset)
    action = _normalisation(folder, unnormalizer, ACTION, 'ACTION', config, actions, dataset)
    relative, names = _relative(folder, config, before, after, action.columns)
    if any(relative) and state.columns < action.columns:
        raise UserError(
            f'{folder / PREPROCESSOR_FILE}: actions are relative to the state, which has '
            f'{state.columns} columns for {action.columns} actions; expected one for each'
        )
    return LerobotPipelines(
        state,
        action,
        relative,
        names,
        sources,
        whole_number(tokenizer, 'max_length', 512),
        _dataset(folder, normalizer, unnormalizer, dataset),
    )


def _check_newline(path: Path, steps: list[Step], tokenizer: Step) -> None:
    newlines = [step for step in steps if step.name.endswith('_new_line_processor')]
    if not newlines or newlines[0].index > tokenizer.index:
        raise UserError(
            f'{path}: no pi0_new_line_processor before the tokenizer; every pi0 prompt ends with '
            'a newline'
        )


def _check_modes(
    folder: Path, config: Mapping[str, Any], normalizer: Step, unnormalizer: Step
) -> None:
    """Refuse files that contradict each other, and normalised images."""
    mapping = config.get('normalization_mapping')
    for kind, steps in (('STATE', (normalizer,)), ('ACTION', (unnormalizer, normalizer))):
        stated = [(step.where, _mode(step, kind)) for step in steps]
        if isinstance(mapping, dict) and kind in mapping:
            stated.append((f'{folder / CONFIG_FILE}: normalization_mapping', mapping[kind]))
        stated = [(where, mode) for where, mode in stated if mode is not None]
        if not stated:
            raise UserError(
                f'{steps[0].where}: norm_map is missing, and {folder / CONFIG_FILE} has no '
                f'normalization_mapping of {kind}; how it is normalised is not known'
            )
        for where, mode in stated:
            if not isinstance(mode, str) or mode not in FIELDS:
                raise UserError(
                    f'{where}: {kind} is {mode!r}, expected one of {", ".join(FIELDS)}'
                )
            if mode != stated[0][1]:
                raise UserError(
                    f'{stated[0][0]}: norm_map: {kind} is {stated[0][1]}, but {where} says '
                    f'{mode}; which of them the policy was trained with cannot be told'
                )
    visual = _mode(normalizer, 'VISUAL') or 'IDENTITY'
    if visual != 'IDENTITY':
        raise UserError(
            f'{normalizer.where}: norm_map: VISUAL is {visual!r}, expected IDENTITY: pi0 does '
            'not normalise images by statistics'
        )


def _mode(step: Step, kind: str) -> Any:
    """Return the mode that a step states; None: it states none at all."""
    modes = step.config.get('norm_map')
    if modes is None:
        return None
    if not isinstance(modes, dict):
        raise UserError(f'{step.where}: norm_map is {modes!r:.60}, expected an object')
    return modes.get(kind, 'IDENTITY')  # as lerobot does


def _normalisation(
    folder: Path,
    step: Step,
    feature: str,
    kind: str,
    config: Mapping[str, Any],
    columns: int | None,
    dataset: str | None,
) -> Normalisation:
    """Read how a step normalises a feature; the modes are checked already."""
    mode = _mode(step, kind) or config['normalization_mapping'][kind]
    normalised = _is_normalised(step, feature, kind)
    if not normalised:
        mode = 'IDENTITY'
    epsilon = step.config.get('eps', EPSILON)
    path, tensors = read_state_file(folder, step.where, step.state_file)
    if tensors is None and mode != 'IDENTITY':
        raise UserError(
            f'{step.where}: has no state_file, so that the statistics of {feature} for mode '
            f'{mode} are missing; a base checkpoint has none: import a fine-tuned one'
        )
    found = feature_statistics(path, tensors or {}, feature, dataset, mode)
    where = f'{path or step.where}: {feature}'
    made = make_normalisation(where, found, columns, mode, LEROBOT, epsilon)
    shape = ((step.config.get('features') or {}).get(feature) or {}).get('shape')
    if normalised and shape is not None and shape != [made.columns]:
        raise UserError(
            f'{step.where}: features: {feature} has shape {shape!r:.60}, but there are '
            f'{made.columns} columns'
        )
    return made


def _is_normalised(step: Step, feature: str, kind: str) -> bool:
    """Whether a step touches a feature at all; its file must say so, or not list features."""
    keys, features = (step.config.get(k) for k in ('normalize_observation_keys', 'features'))
    if keys is not None and not isinstance(keys, list):
        raise UserError(
            f'{step.where}: normalize_observation_keys is {keys!r:.60}, expected a list of names'
        )
    if kind == 'STATE' and keys is not None and feature not in keys:
        return False
    if not features:  # an older or hand-written file; the feature types are those of config.json
        return True
    if kind == 'ACTION' and isinstance(features, dict) and feature not in features:
        return True  # lerobot knows the action without it
    if not isinstance(features, dict) or not isinstance(features.get(feature), dict):
        raise UserError(
            f'{step.where}: features has no {feature}, so that lerobot would pass it on as it is; '
            'expected its type and shape'
        )
    if features[feature].get('type') != kind:
        raise UserError(
            f'{step.where}: features: {feature} has type {features[feature].get("type")!r}, '
            f'expected {kind!r}'
        )
    return True


def _sources(path: Path, steps: list[Step], normalizer: Step) -> dict[str, tuple[str, ...]]:
    """Follow renamed features back to the names that an observation has."""
    sources: dict[str, tuple[str, ...]] = {}
    for step in steps:
        if step.name != 'rename_observations_processor':
            continue
        names = step.config.get('rename_map') or {}
        if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
            raise UserError(f'{step.where}: rename_map is {names!r:.80}, expected names to names')
        if names and sources:
            raise UserError(f'{step.where}: renames a second time, which is not supported')
        if STATE in {*names, *names.values()} and step.index > normalizer.index:
            raise UserError(f'{step.where}: renames {STATE} after it was normalised')
        if STATE in names and STATE not in names.values():
            raise UserError(
                f'{step.where}: renames {STATE} to {names[STATE]}, so that the policy would get '
                'no state'
            )
        for old, new in names.items():
            sources[new] = (*sources.get(new, ()), old)
        for old in names:
            sources.setdefault(old, ())
    for feature, old in sources.items():
        if len(old) > 1:
            raise UserError(
                f'{path}: rename_map gives {feature} from both {old[0]} and {old[1]}; expected one'
            )
    return sources


def _relative(
    folder: Path,
    config: Mapping[str, Any],
    before: list[Step],
    after: list[Step],
    actions: int,
) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """Return which action columns are relative, and the names of the columns."""
    relative = [step for step in before if step.name == 'relative_actions_processor']
    absolute = [step for step in after if step.name == 'absolute_actions_processor']
    for steps in (relative, absolute):
        if len(steps) > 1:
            raise UserError(f'{steps[1].where}: a second step of this name; expected one')
    path = folder / PREPROCESSOR_FILE
    stated = {
        f'{path}: relative_actions_processor': any(s.config.get('enabled') for s in relative),
        f'{folder / POSTPROCESSOR_FILE}: absolute_actions_processor': any(
            s.config.get('enabled') for s in absolute
        ),
    }
    if isinstance(config.get('use_relative_actions'), bool):
        stated[f'{folder / CONFIG_FILE}: use_relative_actions'] = config['use_relative_actions']
    if len(set(stated.values())) > 1:
        on, off = (next(w for w, v in stated.items() if v == value) for value in (True, False))
        raise UserError(
            f'{on} is on, but {off} is off or missing; whether actions are offsets from the state '
            'cannot be told'
        )
    names = config.get('action_feature_names')
    excluded: list[str] = []
    if relative:
        names = relative[0].config.get('action_names') or names
        excluded = relative[0].config.get('exclude_joints') or []
    for what, value in (('action_names', names or []), ('exclude_joints', excluded)):
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise UserError(f'{path}: {what} is {value!r:.60}, expected a list of names')
    columns = tuple(names or ())
    columns = columns if len(columns) == actions else ()
    if not any(stated.values()):
        return (), columns
    _check_order(relative[0], before, 'normalizer_processor', first=True)
    _check_order(absolute[0], after, 'unnormalizer_processor', first=False)
    # Without names lerobot makes every column relative, whatever is to be excluded.
    tokens = [token.lower() for token in excluded if token]
    given = relative[0].config.get('action_names') or []
    mask = [not any(token in name.lower() for token in tokens) for name in given[:actions]]
    return (*mask, *[True] * (actions - len(mask))), columns


def _check_order(step: Step, steps: list[Step], other: str, first: bool) -> None:
    """Check that offsets are relative to the state as it is before it is normalised."""
    index = next(s.index for s in steps if s.name == other)
    if (step.index < index) != first:
        raise UserError(
            f'{step.where}: expected {"before" if first else "after"} {other} (step {index})'
        )


def _columns(config: Mapping[str, Any], group: str, feature: str) -> int | None:
    features = config.get(group)
    entry = features.get(feature) if isinstance(features, dict) else None
    shape = entry.get('shape') if isinstance(entry, dict) else None
    return shape[0] if isinstance(shape, list) and len(shape) == 1 else None


def _dataset(folder: Path, normalizer: Step, unnormalizer: Step, wanted: str | None) -> str | None:
    """Return the dataset that the user chose, if statistics are stored under it."""
    for step in (normalizer, unnormalizer):
        _, tensors = read_state_file(folder, step.where, step.state_file)
        if wanted in dataset_names(tensors or {}):
            return wanted
    return None
