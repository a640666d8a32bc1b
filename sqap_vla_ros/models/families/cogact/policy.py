"""A loaded CogACT model behind the `Policy` interface."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.models.cuda_graphs import Tensors
from sqap_vla_ros.models.families.cogact.model import CogActModel
from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
from sqap_vla_ros.models.preprocessing.images import resize_image, squash
from sqap_vla_ros.models.preprocessing.prismatic_text import check_vocabulary, PrismaticTokenizer
from sqap_vla_ros.models.preprocessing.statistics import load_statistics, Statistics
from sqap_vla_ros.models.preprocessing.words import WordTokenizer
from sqap_vla_ros.models.pruned_policy import PrunedPolicy
from sqap_vla_ros.policy import Observation, PolicySpec, state_fields
from sqap_vla_ros.runtime_options import RuntimeOptions
from sqap_vla_ros.token_geometry import TokenGeometry


class CogActPolicy(PrunedPolicy):
    """One camera, batch 1. See `Policy` for threading."""

    def __init__(
        self,
        model: CogActModel,
        tokenizer: WordTokenizer | PrismaticTokenizer,
        statistics: Statistics,
        description: dict[str, Any] | None = None,
        runtime: RuntimeOptions = RuntimeOptions(),
    ) -> None:
        config = model.config
        words: tuple[str, ...] = ()
        max_words = 0
        if isinstance(tokenizer, WordTokenizer):
            words, max_words = tuple(tokenizer.words), tokenizer.length
        spec = PolicySpec(
            cameras=config.cameras,
            **state_fields(config.state),
            action=ActionSpec.of(config.action, config.step_s, config.horizon),
            visual_tokens=model.grid**2,
            token_grid=(model.grid, model.grid),
            continues=True,
            token_geometry=TokenGeometry(
                image_size=config.image_size, patch_size=config.vision[0].model['patch_size']
            ),
            words=words,
            max_words=max_words,
        )
        super().__init__(model, spec, len(model.decoder.llama.layers), description, runtime)
        self.tokenizer, self.statistics = tokenizer, statistics
        self._binary = [
            index
            for index, column in enumerate(config.action)
            if column.name in config.binary_actions
        ]
        self.reset()

    def reset(self) -> None:
        """Start the noise of the diffusion head again, so that a run is repeatable from here."""
        super().reset()
        self._noise = torch.Generator().manual_seed(0)

    def _inputs(self, observation: Observation) -> Tensors:
        """See `PrunedPolicy`."""
        found = {
            'image': torch.from_numpy(self._image(observation, self.spec.cameras[0])),
            'text': torch.tensor([self.tokenizer.encode(observation.instruction)]),
            'noise': torch.randn(1, *self.model.action_head.shape, generator=self._noise),
            **self._continuation(observation),
        }
        if self.spec.state_names:
            values = self.statistics.normalise_state(self._state(observation))
            found['state'] = torch.from_numpy(values)[None]
        return found

    def _cut(self, instruction: str) -> str:
        """See `PrunedPolicy`."""
        return self.tokenizer.cut(instruction)

    def _forward(self, tensors: Tensors, pruning: PruningPoint | None) -> Tensors:
        """See `PrunedPolicy`."""
        config, model = self.model.config, self.model
        with self._stage('vision'):
            resize = squash if config.text == 'prismatic' else resize_image
            image = resize(tensors['image'], config.image_size)
            visual = model.encode_image(image[None].float() / 255)
        with self._stage('decoder'):
            condition, _ = model.cognition(visual, tensors['text'], tensors.get('state'), pruning)
        with self._stage('action_head'):
            # The head may be kept in a wider type than the decoder.
            like = model.action_head.net.positional_embedding
            actions = model.action_head.sample(
                condition.to(like), tensors['noise'].to(like), self._guide(tensors)
            )
        return {'actions': actions[0].float()}

    def _values(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `PrunedPolicy`."""
        values = self.statistics.unnormalise_action(outputs['actions'])
        # Not `where`: a NaN from the model must stay NaN, so that the chunk is dropped.
        binary = values[:, self._binary]
        values[:, self._binary] = np.where(np.isfinite(binary), binary >= 0.5, binary)
        return self._to_action_units(values)


def make_policy(
    model: CogActModel, directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> CogActPolicy:
    """Read tokenizer and statistics from the policy directory; see `Family.make_policy`."""
    config = model.config
    tokenizer: WordTokenizer | PrismaticTokenizer
    if config.text == 'prismatic':
        tokenizer = PrismaticTokenizer.load(directory)
    else:
        tokenizer = WordTokenizer.load(directory, config.text_length)
    check_vocabulary(directory, tokenizer, config.llama['vocab_size'])
    statistics = load_statistics(directory, config.dataset, len(config.state), len(config.action))
    return CogActPolicy(model, tokenizer, statistics, description, runtime)
