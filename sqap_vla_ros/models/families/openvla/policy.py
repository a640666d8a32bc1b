"""A loaded OpenVLA model behind the `Policy` interface."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.models.cuda_graphs import Tensors
from sqap_vla_ros.models.families.openvla.model import OpenVlaModel
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.preprocessing.images import centre_crop, squash
from sqap_vla_ros.models.preprocessing.prismatic_text import check_vocabulary, PrismaticTokenizer
from sqap_vla_ros.models.preprocessing.statistics import load_statistics, Statistics
from sqap_vla_ros.models.pruned_policy import PrunedPolicy
from sqap_vla_ros.policy import Observation, PolicySpec
from sqap_vla_ros.runtime_options import RuntimeOptions
from sqap_vla_ros.token_geometry import SQUASH, TokenGeometry


class OpenVlaPolicy(PrunedPolicy):
    """One camera, batch 1, one row per chunk. See `Policy` for threading."""

    def __init__(
        self,
        model: OpenVlaModel,
        tokenizer: PrismaticTokenizer,
        statistics: Statistics,
        description: dict[str, Any] | None = None,
        runtime: RuntimeOptions = RuntimeOptions(),
    ) -> None:
        config = model.config
        spec = PolicySpec(
            cameras=config.cameras,
            state_names=(),
            state_units=(),
            action=ActionSpec.of(config.action, config.step_s, 1),
            visual_tokens=model.grid**2,
            token_grid=(model.grid, model.grid),
            token_geometry=TokenGeometry(
                SQUASH, config.crop_area, config.image_size, config.vision[0].model['patch_size']
            ),
        )
        super().__init__(model, spec, len(model.decoder.llama.layers), description, runtime)
        self.tokenizer, self.statistics = tokenizer, statistics
        edges = np.linspace(-1, 1, config.action_bins)
        self._centres = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)

    def _inputs(self, observation: Observation) -> Tensors:
        """See `PrunedPolicy`."""
        return {
            'image': torch.from_numpy(self._image(observation, self.spec.cameras[0])),
            'text': torch.tensor([self.tokenizer.encode(observation.instruction)]),
        }

    def _cut(self, instruction: str) -> str:
        """See `PrunedPolicy`."""
        return self.tokenizer.cut(instruction)

    def _forward(self, tensors: Tensors, pruning: PruningPoint | None) -> Tensors:
        """See `PrunedPolicy`. Generating action tokens is the stage 'action_head'."""
        config, model = self.model.config, self.model
        with self._stage('vision'):
            image = squash(tensors['image'], config.image_size)
            if config.crop_area < 1:
                image = centre_crop(image, config.crop_area)
            visual = model.encode_image(image[None].float() / 255)
        with self._stage('decoder'):
            hidden, cache, _ = model.prefill(visual, tensors['text'], pruning)
        with self._stage('action_head'):
            tokens, logits = model.write(hidden, cache, len(self.spec.action.names))
        return {'actions': tokens, 'finite': logits.isfinite().all()}

    _answers = ('actions', 'finite')

    def _values(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Convert token ids [A] to action units [1, A]; NaN where the logits were not finite."""
        bins = self.model.config.token_end - 1 - outputs['actions']
        normalised = self._centres[np.clip(bins, 0, len(self._centres) - 1)]
        values = self._to_action_units(self.statistics.unnormalise_action(normalised[None]))
        return values if outputs['finite'] else np.full_like(values, np.nan)


def make_policy(
    model: OpenVlaModel, directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> OpenVlaPolicy:
    """Read tokenizer and statistics from the policy directory; see `Family.make_policy`."""
    tokenizer = PrismaticTokenizer.load(directory)
    check_vocabulary(directory, tokenizer, model.config.llama['vocab_size'])
    statistics = load_statistics(directory, model.config.dataset, 0, len(model.config.action))
    return OpenVlaPolicy(model, tokenizer, statistics, description, runtime)
