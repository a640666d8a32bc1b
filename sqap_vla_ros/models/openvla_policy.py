"""A loaded OpenVLA model behind the `Policy` interface."""
from time import perf_counter

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.models.openvla import OpenVlaModel
from sqap_vla_ros.models.policy import Inference, Observation, PolicySpec
from sqap_vla_ros.models.preprocessing import centre_crop, squash, Statistics
from sqap_vla_ros.models.pruned_policy import PrunedPolicy, timed
from sqap_vla_ros.models.text_prismatic import PrismaticTokenizer


class OpenVlaPolicy(PrunedPolicy):
    """One camera, batch 1, one row a chunk. See `Policy` for threading."""

    def __init__(self, model: OpenVlaModel, tokenizer: PrismaticTokenizer, statistics: Statistics,
                 description: dict | None = None):
        config = model.config
        spec = PolicySpec(
            cameras=config.cameras, state_names=(), state_units=(),
            action=ActionSpec(config.action_names, config.action_units, config.step_s, 1),
            visual_tokens=model.grid ** 2, token_grid=(model.grid, model.grid))
        super().__init__(model, spec, len(model.decoder.llama.layers), description)
        self.tokenizer, self.statistics = tokenizer, statistics
        edges = np.linspace(-1, 1, config.action_bins)
        self._centres = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """See `Policy`. Writing the action tokens is the stage 'action_head'."""
        latencies, started = {}, perf_counter()
        config, model = self.model.config, self.model
        with timed(latencies, 'preprocess'):
            image = squash(self._image(observation, self.spec.cameras[0]), config.image_size)
            if config.crop_area < 1:
                image = centre_crop(image, config.crop_area)
            image = image[None].to(self._device).float() / 255
            text = torch.tensor([self.tokenizer.encode(observation.instruction)],
                                device=self._device)
        with timed(latencies, 'vision'):
            visual = model.encode_image(image)
        with timed(latencies, 'decoder'):
            hidden, cache, _ = model.prefill(visual, text, self._pruning(observation))
        with timed(latencies, 'action_head'):
            tokens, logits = model.write(hidden, cache, len(self.spec.action.names))
            values = self._units(tokens.cpu().numpy(), bool(logits.isfinite().all()))
        latencies['total'] = (perf_counter() - started) * 1e3
        return Inference(ActionChunk(values, self.spec.action, observation.stamp_ns), latencies,
                         self.spec.visual_tokens, self._selection())

    def _units(self, tokens, finite):
        """Token ids [A] to action units [1, A]; NaN where the logits were not finite."""
        bins = self.model.config.token_end - 1 - tokens
        normalised = self._centres[np.clip(bins, 0, len(self._centres) - 1)]
        values = self._to_action_units(self.statistics.unnormalise_action(normalised[None]))
        return values if finite else np.full_like(values, np.nan)
