"""A loaded pi0 model behind the `Policy` interface."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.models.cuda_graphs import Tensors
from sqap_vla_ros.models.families.pi0.model import Pi0Model
from sqap_vla_ros.models.families.pi0.preprocessing import (
    load_pi0_statistics,
    Pi0Statistics,
    Pi0Tokenizer,
    prepare_image,
)
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.preprocessing.prismatic_text import check_vocabulary
from sqap_vla_ros.models.pruned_policy import PrunedPolicy
from sqap_vla_ros.policy import Observation, PolicySpec, state_fields
from sqap_vla_ros.runtime_options import RuntimeOptions
from sqap_vla_ros.token_geometry import LETTERBOX, TokenGeometry


class Pi0Policy(PrunedPolicy):
    """One or more cameras, batch 1. See `Policy` for threading."""

    def __init__(
        self,
        model: Pi0Model,
        tokenizer: Pi0Tokenizer,
        statistics: Pi0Statistics,
        description: dict[str, Any] | None = None,
        runtime: RuntimeOptions = RuntimeOptions(),
    ) -> None:
        config = model.config
        spec = PolicySpec(
            cameras=config.cameras,
            **state_fields(config.state),
            action=ActionSpec.of(config.action, config.step_s, config.horizon),
            visual_tokens=len(config.cameras) * model.grid**2,
            token_grid=(model.grid, model.grid),
            continues=True,
            token_geometry=TokenGeometry(
                LETTERBOX,
                image_size=config.image_size,
                patch_size=config.model['vlm_config']['vision_config']['patch_size'],
            ),
        )
        super().__init__(model, spec, model.layers, description, runtime)
        self.tokenizer, self.statistics = tokenizer, statistics
        self._relative = np.array(config.relative_actions, bool)
        self.reset()

    def reset(self) -> None:
        """Start the flow's noise again, so that a run is repeatable from here."""
        super().reset()
        self._noise = torch.Generator().manual_seed(0)

    def _inputs(self, observation: Observation) -> Tensors:
        """See `PrunedPolicy`."""
        config = self.model.config
        state = self.statistics.normalise_state(
            self._state(observation), config.model['max_state_dim']
        )
        images = {
            f'image {name}': torch.from_numpy(self._image(observation, name))
            for name in self.spec.cameras
        }
        return {
            **images,
            'text': torch.tensor([self.tokenizer.encode(observation.instruction)]),
            'state': torch.from_numpy(state)[None],
            'noise': torch.randn(
                1, config.horizon, config.model['max_action_dim'], generator=self._noise
            ),
            **self._continuation(observation),
        }

    def _cut(self, instruction: str) -> str:
        """See `PrunedPolicy`."""
        return self.tokenizer.cut(instruction)

    def _forward(self, tensors: Tensors, pruning: PruningPoint | None) -> Tensors:
        """See `PrunedPolicy`. Integration of the flow is timed as the stage 'action_head'."""
        model, config = self.model, self.model.config
        with self._stage('vision'):
            images = torch.stack(
                [
                    prepare_image(
                        tensors[f'image {name}'],
                        config.image_size,
                        config.preprocessing,
                        config.letterbox_bars,
                    )
                    for name in self.spec.cameras
                ]
            )
            visual = model.encode_images(images)
        with self._stage('decoder'):
            cache, _ = model.prefix(visual, tensors['text'], pruning)
        with self._stage('action_head'):
            like = model.pi0.action_out_proj.weight
            actions = model.sample(
                cache, tensors['state'].to(like), tensors['noise'].to(like), self._guide(tensors)
            )
        return {'actions': actions[0].float()}

    def _values(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `PrunedPolicy`."""
        return np.ascontiguousarray(
            self._to_action_units(self.statistics.unnormalise_action(outputs['actions']))
        )

    def _origin(self, observation: Observation) -> np.ndarray | None:
        """Relative columns are offsets from the state column of the same index."""
        if not self._relative.any():
            return None
        return np.where(self._relative, self._state(observation)[: len(self._relative)], 0)


def make_policy(
    model: Pi0Model, directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> Pi0Policy:
    """Read tokenizer and statistics from the policy directory; see `Family.make_policy`."""
    config = model.config
    tokenizer = Pi0Tokenizer.load(directory, config.text_length, config.preprocessing)
    vocabulary = config.model['vlm_config']['text_config']['vocab_size']
    check_vocabulary(directory, tokenizer, vocabulary)
    statistics = load_pi0_statistics(
        directory, config.dataset, len(config.state), len(config.action), config.preprocessing
    )
    return Pi0Policy(model, tokenizer, statistics, description, runtime)
