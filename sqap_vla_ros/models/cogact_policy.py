"""A loaded CogACT model behind the `Policy` interface."""
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.compression.protection import patch_distances_m
from sqap_vla_ros.compression.token_selector import TokenSelector
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.cogact import CogActModel
from sqap_vla_ros.models.decoder import PruningPoint
from sqap_vla_ros.models.policy import (Inference, Observation, Policy, PolicySpec,
                                        TokenSelection)
from sqap_vla_ros.models.preprocessing import resize_image, Statistics
from sqap_vla_ros.models.text import WordTokenizer


class CogActPolicy(Policy):
    """One camera, batch 1. See `Policy` for threading."""

    def __init__(self, model: CogActModel, tokenizer: WordTokenizer, statistics: Statistics,
                 description: dict | None = None):
        config = model.config
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.statistics = tokenizer, statistics
        self.spec = PolicySpec(
            cameras=config.cameras, state_names=config.state_names, state_units=config.state_units,
            action=ActionSpec(config.action_names, config.action_units, config.step_s,
                              config.horizon),
            visual_tokens=model.grid ** 2, token_grid=(model.grid, model.grid))
        self._device = next(model.parameters()).device
        self._binary = [config.action_names.index(name) for name in config.binary_actions]
        self._description = description or {}
        self._selector = self._make_selector()
        self.reset()

    def _make_selector(self):
        recipe = self.model.pruning
        if recipe is None or recipe.kept(self.spec.visual_tokens) == self.spec.visual_tokens:
            return None
        if recipe.layer > len(self.model.decoder.llama.layers):
            raise UserError(f'recipe: pruning layer is {recipe.layer}, but the decoder has only '
                            f'{len(self.model.decoder.llama.layers)} layers')
        return TokenSelector(recipe, self.spec.token_grid, len(self.spec.cameras), self._device)

    def reset(self):
        """Start the noise of the diffusion head anew: a run is repeatable from here."""
        self._noise = torch.Generator().manual_seed(0)
        if self._selector is not None:
            self._selector.reset()

    def describe(self) -> dict:
        """See `Policy`."""
        return dict(self._description)

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """See `Policy`."""
        latencies, started = {}, perf_counter()
        with _timed(latencies, 'preprocess'):
            image, text, state = self._inputs(observation)
        with _timed(latencies, 'vision'):
            visual = self.model.encode_image(image)
        with _timed(latencies, 'decoder'):
            pruning = self._pruning(observation)
            condition, _ = self.model.cognition(visual, text, state, pruning)
        with _timed(latencies, 'action_head'):
            noise = torch.randn(1, *self.model.action_head.shape, generator=self._noise)
            actions = self.model.action_head.sample(condition, noise.to(self._device))
            values = self._units(actions[0].float().cpu().numpy())
        latencies['total'] = (perf_counter() - started) * 1e3
        return Inference(ActionChunk(values, self.spec.action, observation.stamp_ns), latencies,
                         self.spec.visual_tokens, self._selection())

    def _pruning(self, observation):
        selector = self._selector
        if selector is None:
            return None
        selector.begin(np.concatenate([
            patch_distances_m(observation.cameras.get(name), observation.end_effector_m,
                              self.spec.token_grid) for name in self.spec.cameras]))
        return PruningPoint(selector.recipe.layer, selector.select, selector.needs_attention)

    def _selection(self):
        if self._selector is None:
            return None
        kept = self._selector.kept
        return TokenSelection(self.spec.token_grid, kept.indices.cpu().numpy(),
                              kept.criterion.cpu().numpy())

    def _inputs(self, observation):
        camera = self.spec.cameras[0]
        if camera not in observation.images:
            raise UserError(f'observation has no image {camera!r}, which this policy needs')
        image = torch.from_numpy(np.ascontiguousarray(observation.images[camera]))
        image = resize_image(image.to(self._device), self.model.config.image_size)
        text = torch.tensor([self.tokenizer.encode(observation.instruction)], device=self._device)
        state = None
        if self.spec.state_names:
            if observation.state is None or len(observation.state) != len(self.spec.state_names):
                raise UserError('observation has no state with the columns that this policy needs: '
                                + ', '.join(self.spec.state_names))
            state = torch.from_numpy(self.statistics.normalise_state(observation.state))
            state = state[None].to(self._device)
        return image[None].float() / 255, text, state

    def _units(self, normalised):
        values = self.statistics.unnormalise_action(normalised)
        # Not `where`: a NaN from the model must stay one, so that it is seen and dropped.
        binary = values[:, self._binary]
        values[:, self._binary] = np.where(np.isfinite(binary), binary >= 0.5, binary)
        return values


@contextmanager
def _timed(latencies, stage):
    start = perf_counter()
    yield
    latencies[stage] = (perf_counter() - start) * 1e3
