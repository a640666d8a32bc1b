"""Conversion of actions and states between the dataset's units and the model's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json

STATISTICS_FILE = 'dataset_statistics.json'


@dataclass(frozen=True)
class Statistics:
    """Per-column statistics of one dataset."""

    action_low: np.ndarray
    """float32 [A], 1st percentile, which is normalised to -1."""
    action_high: np.ndarray
    """float32 [A], 99th percentile, which is normalised to +1."""
    action_mask: np.ndarray
    """bool [A]; columns with False are not normalised."""
    state_mean: np.ndarray
    state_std: np.ndarray

    def normalise_action(self, action: np.ndarray) -> np.ndarray:
        """Map actions [..., A] from the dataset's units to about [-1, 1], float32."""
        span = np.where(self.action_mask, self.action_high - self.action_low, 1)
        span = np.where(span > 0, span, 1)  # a column that never moved in the data
        scaled = 2 * (action - self.action_low) / span - 1
        return np.where(self.action_mask, scaled, action).astype(np.float32)

    def unnormalise_action(self, action: np.ndarray) -> np.ndarray:
        """Map actions [..., A] from [-1, 1] to the dataset's units, within its range, float32."""
        clipped = np.clip(action, -1, 1)
        scaled = (clipped + 1) / 2 * (self.action_high - self.action_low) + self.action_low
        return np.where(self.action_mask, scaled, clipped).astype(np.float32)

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest actions of the data, float32 [A], in its units."""
        low, high = np.full_like(self.action_low, -1), np.ones_like(self.action_high)
        return self.unnormalise_action(low), self.unnormalise_action(high)

    def normalise_state(self, state: np.ndarray) -> np.ndarray:
        """Map states [..., S] to zero mean and unit deviation over the dataset, float32."""
        return ((state - self.state_mean) / self.state_std).astype(np.float32)


def load_statistics(directory: Path, dataset: str, states: int) -> Statistics:
    """
    Read `dataset_statistics.json`: `{dataset: {action: {q01, q99, mask}, state: {mean, std}}}`.

    Args:
        directory: policy directory.
        dataset: key of the statistics.
        states: number of state columns of the policy; 0 where it takes no state.

    Returns:
        The statistics.

    Raises:
        UserError: names the file and the missing or wrong field.
    """
    path = Path(directory) / STATISTICS_FILE
    data = read_json(path)
    if dataset not in data:
        raise UserError(f'{path}: no dataset {dataset!r}; it has {", ".join(sorted(data))}')
    try:
        action = data[dataset]['action']
        low, high = (np.array(action[key], np.float32) for key in ('q01', 'q99'))
        mask = np.array(action.get('mask', [True] * len(low)), bool)
        state = data[dataset]['state'] if states else {'mean': [], 'std': []}
        mean, std = (np.array(state[key], np.float32) for key in ('mean', 'std'))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path}: {dataset}: field {error} is missing or not numeric') from None
    if not low.shape == high.shape == mask.shape or (mask & ~(high >= low)).any():
        raise UserError(f'{path}: {dataset}: action q01, q99 and mask disagree')
    if mean.shape != (states,) or std.shape != (states,) or not (std > 0).all():
        raise UserError(
            f'{path}: {dataset}: state mean and std must have {states} values, std > 0'
        )
    return Statistics(low, high, mask, mean, std)
