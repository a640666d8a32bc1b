"""A loaded pi0 model behind the `Policy` interface."""
from time import perf_counter

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.models.guidance import guide_to
from sqap_vla_ros.models.pi0 import Pi0Model
from sqap_vla_ros.models.pi0_preprocessing import letterbox, Pi0Statistics, Pi0Tokenizer
from sqap_vla_ros.models.policy import Inference, Observation, PolicySpec
from sqap_vla_ros.models.pruned_policy import PrunedPolicy, timed


class Pi0Policy(PrunedPolicy):
    """One or more cameras, batch 1. See `Policy` for threading."""

    def __init__(self, model: Pi0Model, tokenizer: Pi0Tokenizer, statistics: Pi0Statistics,
                 description: dict | None = None):
        config = model.config
        spec = PolicySpec(
            cameras=config.cameras, state_names=config.state_names, state_units=config.state_units,
            action=ActionSpec(config.action_names, config.action_units, config.step_s,
                              config.horizon),
            visual_tokens=len(config.cameras) * model.grid ** 2,
            token_grid=(model.grid, model.grid), continues=True)
        super().__init__(model, spec, model.layers, description)
        self.tokenizer, self.statistics = tokenizer, statistics
        self.reset()

    def reset(self):
        """Start the flow's noise anew: a run is repeatable from here."""
        super().reset()
        self._noise = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """See `Policy`. The flow is the stage 'action_head'."""
        latencies, started = {}, perf_counter()
        config, model = self.model.config, self.model
        with timed(latencies, 'preprocess'):
            images = torch.stack([letterbox(self._image(observation, name), config.image_size)
                                  for name in self.spec.cameras])
            images = images.to(self._device).float() / 255 * 2 - 1
            text = torch.tensor([self.tokenizer.encode(observation.instruction)],
                                device=self._device)
            state = self.statistics.normalise_state(self._state(observation),
                                                    config.model['max_state_dim'])
        with timed(latencies, 'vision'):
            visual = model.encode_images(images)
        with timed(latencies, 'decoder'):
            cache, _ = model.prefix(visual, text, self._pruning(observation))
        with timed(latencies, 'action_head'):
            like = model.pi0.action_out_proj.weight
            noise = torch.randn(1, config.horizon, config.model['max_action_dim'],
                                generator=self._noise)
            guide = guide_to(observation.continuation, lambda values: (
                self.statistics.normalise_action(self._to_dataset_units(values))))
            actions = model.sample(cache, torch.from_numpy(state)[None].to(like), noise.to(like),
                                   guide)
            values = self._to_action_units(
                self.statistics.unnormalise_action(actions[0].float().cpu().numpy()))
        latencies['total'] = (perf_counter() - started) * 1e3
        return Inference(ActionChunk(np.ascontiguousarray(values), self.spec.action,
                                     observation.stamp_ns), latencies, self.spec.visual_tokens,
                         self._selection())
