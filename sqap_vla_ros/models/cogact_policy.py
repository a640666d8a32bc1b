"""A loaded CogACT model behind the `Policy` interface."""
from time import perf_counter

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.models.cogact import CogActModel
from sqap_vla_ros.models.guidance import guide_to
from sqap_vla_ros.models.policy import Inference, Observation, PolicySpec
from sqap_vla_ros.models.preprocessing import resize_image, squash, Statistics
from sqap_vla_ros.models.pruned_policy import PrunedPolicy, timed
from sqap_vla_ros.models.text import WordTokenizer
from sqap_vla_ros.models.text_prismatic import PrismaticTokenizer


class CogActPolicy(PrunedPolicy):
    """One camera, batch 1. See `Policy` for threading."""

    def __init__(self, model: CogActModel, tokenizer: WordTokenizer | PrismaticTokenizer,
                 statistics: Statistics, description: dict | None = None):
        config = model.config
        spec = PolicySpec(
            cameras=config.cameras, state_names=config.state_names, state_units=config.state_units,
            action=ActionSpec(config.action_names, config.action_units, config.step_s,
                              config.horizon),
            visual_tokens=model.grid ** 2, token_grid=(model.grid, model.grid), continues=True)
        super().__init__(model, spec, len(model.decoder.llama.layers), description)
        self.tokenizer, self.statistics = tokenizer, statistics
        self._binary = [config.action_names.index(name) for name in config.binary_actions]
        self.reset()

    def reset(self):
        """Start the noise of the diffusion head anew: a run is repeatable from here."""
        super().reset()
        self._noise = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """See `Policy`."""
        latencies, started = {}, perf_counter()
        with timed(latencies, 'preprocess'):
            image, text, state = self._inputs(observation)
        with timed(latencies, 'vision'):
            visual = self.model.encode_image(image)
        with timed(latencies, 'decoder'):
            pruning = self._pruning(observation)
            condition, _ = self.model.cognition(visual, text, state, pruning)
        with timed(latencies, 'action_head'):
            noise = torch.randn(1, *self.model.action_head.shape, generator=self._noise)
            # The head may be kept in a wider type than the decoder.
            like = self.model.action_head.net.positional_embedding
            guide = guide_to(observation.continuation, lambda values: (
                self.statistics.normalise_action(self._to_dataset_units(values))))
            actions = self.model.action_head.sample(condition.to(like), noise.to(like), guide)
            values = self._units(actions[0].float().cpu().numpy())
        latencies['total'] = (perf_counter() - started) * 1e3
        return Inference(ActionChunk(values, self.spec.action, observation.stamp_ns), latencies,
                         self.spec.visual_tokens, self._selection())

    def _inputs(self, observation):
        image = self._image(observation, self.spec.cameras[0])
        image = (squash(image, self.model.config.image_size)
                 if self.model.config.text == 'prismatic' else
                 resize_image(torch.from_numpy(image).to(self._device),
                              self.model.config.image_size))
        image = image.to(self._device)
        text = torch.tensor([self.tokenizer.encode(observation.instruction)], device=self._device)
        state = None
        if self.spec.state_names:
            values = self.statistics.normalise_state(self._state(observation))
            state = torch.from_numpy(values)[None].to(self._device)
        return image[None].float() / 255, text, state

    def _units(self, normalised):
        values = self.statistics.unnormalise_action(normalised)
        # Not `where`: a NaN from the model must stay one, so that it is seen and dropped.
        binary = values[:, self._binary]
        values[:, self._binary] = np.where(np.isfinite(binary), binary >= 0.5, binary)
        return self._to_action_units(values)
