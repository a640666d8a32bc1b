"""What every policy of a vision-language-action model does around its network."""
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Callable

import numpy as np
import torch

from sqap_vla_ros.compression.protection import patch_distances_m
from sqap_vla_ros.compression.token_selector import TokenSelector
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.decoder import pruning_point, PruningPoint
from sqap_vla_ros.models.policy import Observation, Policy, PolicySpec, TokenSelection


class PrunedPolicy(Policy):
    """
    Token selection, input checks and units.

    Subclasses run the model and set `statistics`, which has `action_range` and `state_mean`.
    """

    def __init__(self, model: torch.nn.Module, spec: PolicySpec, layers: int,
                 description: dict | None = None):
        """
        Take over a loaded model.

        layers: of the decoder that visual tokens pass.
        """
        config = model.config
        self.model = model.eval().requires_grad_(False)
        self.spec = spec
        self._device = next(model.parameters()).device
        self._description = description or {}
        self._scale = np.array(config.action_scale or 1, np.float32)
        self._offset = np.array(config.action_offset or 0, np.float32)
        self._selector = self._make_selector(layers)
        self.attention_listener: Callable[[torch.Tensor, torch.Tensor | None], None] | None = None
        """
        Called in each decoder layer behind the first with the task query's attention [left] to
        the visual tokens that are left there, and which these are, [left]; None: all.
        """

    def reset(self):
        """See `Policy`."""
        if self._selector is not None:
            self._selector.reset()

    def set_budget(self, share: float):
        """See `Policy`."""
        if self._selector is not None:
            self._selector.share = share

    def describe(self) -> dict:
        """See `Policy`."""
        return dict(self._description)

    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Policy`."""
        ends = [self._to_action_units(end) for end in self.statistics.action_range()]
        return np.minimum(*ends), np.maximum(*ends)

    def typical_state(self) -> np.ndarray | None:
        """See `Policy`."""
        return self.statistics.state_mean if self.spec.state_names else None

    def _make_selector(self, layers):
        recipe, tokens = self.model.pruning, self.spec.visual_tokens
        if recipe is None or recipe.kept(tokens) == recipe.kept(tokens, fine=True) == tokens:
            return None
        last = layers - 1 if recipe.relevance == 'temporal' else layers
        if recipe.layer > last:
            raise UserError(f'recipe: pruning layer is {recipe.layer}, expected 0..{last} for '
                            f'this decoder of {layers} layers')
        return TokenSelector(recipe, self.spec.token_grid, len(self.spec.cameras), self._device)

    def _pruning(self, observation: Observation) -> PruningPoint | None:
        selector, listener = self._selector, self.attention_listener
        if selector is None:
            return None if listener is None else PruningPoint(
                1, None, observe=lambda row: listener(row, None))
        gripper = None
        if observation.state is not None and 'gripper' in self.spec.state_names:
            gripper = float(observation.state[self.spec.state_names.index('gripper')])
        selector.begin(
            np.concatenate([
                patch_distances_m(observation.cameras.get(name), observation.end_effector_m,
                                  self.spec.token_grid) for name in self.spec.cameras]),
            observation.images[self.spec.cameras[0]], observation.instruction,
            observation.stamp_ns, observation.end_effector_m, gripper)
        point = pruning_point(selector)
        if listener is None:
            return point

        def observe(row):
            if point.observe is not None:
                point.observe(row)
            kept = selector.kept
            listener(row, None if kept is None or point.select is None else kept.indices)
        return replace(point, observe=observe)

    def _selection(self) -> TokenSelection | None:
        if self._selector is None:
            return None
        self._selector.end()
        kept = self._selector.kept
        return kept and TokenSelection(self.spec.token_grid, kept.indices.cpu().numpy(),
                                       kept.criterion.cpu().numpy())

    def _image(self, observation: Observation, camera: str) -> np.ndarray:
        """uint8 [H, W, 3] of a camera. Raises UserError when it is not there."""
        if camera not in observation.images:
            raise UserError(f'observation has no image {camera!r}, which this policy needs')
        return np.ascontiguousarray(observation.images[camera])

    def _state(self, observation: Observation) -> np.ndarray:
        """float32 [states]. Raises UserError when it is not there or has other columns."""
        names = self.spec.state_names
        if observation.state is None or len(observation.state) != len(names):
            raise UserError('observation has no state with the columns that this policy needs: '
                            + ', '.join(names))
        return np.asarray(observation.state, np.float32)

    def _to_dataset_units(self, values: np.ndarray) -> np.ndarray:
        """Units of the action spec to the dataset's, float32 [horizon, actions]."""
        return ((values - self._offset) / self._scale).astype(np.float32)

    def _to_action_units(self, values: np.ndarray) -> np.ndarray:
        """Dataset's units to those of the action spec, float32 [horizon, actions]."""
        return (values * self._scale + self._offset).astype(np.float32)


@contextmanager
def timed(latencies: dict[str, float], stage: str):
    """Store the milliseconds that the block took."""
    start = perf_counter()
    yield
    latencies[stage] = (perf_counter() - start) * 1e3
