"""A model family that the package does not know: patches, a Llama decoder and a linear head."""

from dataclasses import dataclass
import json

import numpy as np
from safetensors.torch import save_file
import torch
from torch import nn
from transformers import LlamaConfig

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.models.family import Family, Preset
from sqap_vla_ros.models.importers.checkpoint_reader import SafetensorsReader
from sqap_vla_ros.models.importers.released import Released
from sqap_vla_ros.models.importers.sources import Source
from sqap_vla_ros.models.layers.decoder import PrunableDecoder
from sqap_vla_ros.models.preprocessing.images import resize_image
from sqap_vla_ros.models.preprocessing.prismatic_text import PrismaticTokenizer
from sqap_vla_ros.models.preprocessing.statistics import load_statistics
from sqap_vla_ros.models.pruned_policy import PrunedPolicy
from sqap_vla_ros.models.vla_model import VlaModel
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.runtime_options import RuntimeOptions

from support.tiny_released import write_llama_tokenizer

GRID, PATCH, HORIZON = 8, 4, 3
STATISTICS = {'toy': {'action': {'q01': [-1.0, -1.0], 'q99': [1.0, 1.0]}}}


@dataclass(frozen=True)
class EncoderConfig:
    """Nested, to show that configurations may be."""

    width: int
    scales: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class ToyConfig:
    """Fields that the package reads of every configuration, and the toy's own."""

    encoders: tuple[EncoderConfig, ...]
    llama: dict
    action_names: tuple[str, ...] = ('linear.x', 'linear.y')
    action_units: tuple[str, ...] = ('m/s', 'm/s')
    action_scale: tuple[float, ...] = ()
    action_offset: tuple[float, ...] = ()
    step_s: float = 0.1
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = 'toy'
    model_type: str = 'toy'


class ToyModel(VlaModel):
    """One decoder pass; the last token's state is mapped to the whole chunk."""

    target_roots = {'decoder': ('decoder.llama.layers',)}
    grid = GRID

    def __init__(self, config):
        super().__init__()
        self.config = config
        llama = LlamaConfig(**config.llama)
        self.patches = nn.Linear(3 * PATCH**2, config.encoders[0].width)
        self.projector = nn.Linear(config.encoders[0].width, llama.hidden_size)
        self.decoder = PrunableDecoder(llama)
        self.head = nn.Linear(llama.hidden_size, HORIZON * len(config.action_names))

    @property
    def head_width(self):
        return self.decoder.llama.layers[0].self_attn.head_dim

    def set_query_key_quantizer(self, quantizer):
        self.decoder.query_key_quantizer = quantizer

    def encode(self, image):
        """[3, S, S] in [0, 1] to [1, patches, width]."""
        pieces = image.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
        return self.projector(
            self.patches(pieces.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1))
        )[None]

    def decode(self, visual, text, pruning):
        """To the final hidden state of the last token [1, width]."""
        sequence = torch.cat([visual, self.decoder.llama.embed_tokens(text)], 1)
        return self.decoder(sequence, slice(0, GRID**2), pruning)[0]

    def act(self, hidden):
        """To actions [HORIZON, actions]."""
        return self.head(hidden).view(HORIZON, -1)


class ToyPolicy(PrunedPolicy):
    """One camera."""

    def __init__(self, model, tokenizer, statistics, description, runtime):
        config = model.config
        action = ActionSpec(config.action_names, config.action_units, config.step_s, HORIZON)
        spec = PolicySpec(config.cameras, (), (), action, GRID**2, (GRID, GRID))
        super().__init__(model, spec, len(model.decoder.llama.layers), description, runtime)
        self.tokenizer, self.statistics = tokenizer, statistics

    def _inputs(self, observation):
        return {
            'image': torch.from_numpy(self._image(observation, self.spec.cameras[0])),
            'text': torch.tensor([self.tokenizer.encode(observation.instruction)]),
        }

    def _forward(self, tensors, pruning):
        with self._stage('vision'):
            image = resize_image(tensors['image'], GRID * PATCH)
            visual = self.model.encode(image.float() / 255)
        with self._stage('decoder'):
            hidden = self.model.decode(visual, tensors['text'], pruning)
        with self._stage('action_head'):
            return {'actions': self.model.act(hidden).float()}

    def _values(self, outputs):
        return self._to_action_units(self.statistics.unnormalise_action(outputs['actions']))


def make_policy(model, directory, description, runtime: RuntimeOptions):
    """See `Family.make_policy`."""
    statistics = load_statistics(directory, model.config.dataset, 0)
    tokenizer = PrismaticTokenizer.load(directory)
    return ToyPolicy(model, tokenizer, statistics, description, runtime)


def open_released(folder, options):
    """See `Family.open_released`."""
    reader = SafetensorsReader(folder)
    sources = {name.removeprefix('toy.'): Source(name) for name in reader.names()}
    config = toy_config(step_s=options.step_s or 0.1)
    return Released('Toy', config, STATISTICS, reader, sources, folder)


def stages(model, inputs):
    """See `Family.stages`."""
    image = inputs.noise(3, GRID * PATCH, GRID * PATCH)
    return [
        ('vision', lambda _: model.encode(image)),
        (
            'decoder',
            lambda visual: inputs.pruned(lambda point: model.decode(visual, inputs.text, point)),
        ),
        ('action_head', model.act),
    ]


def toy_config(**changes) -> ToyConfig:
    """Three decoder layers, 64 visual tokens."""
    llama = {
        'vocab_size': 29900,
        'hidden_size': 32,
        'intermediate_size': 64,
        'num_hidden_layers': 3,
        'num_attention_heads': 4,
        'num_key_value_heads': 2,
        'max_position_embeddings': 256,
    }
    return ToyConfig((EncoderConfig(16, (1.0, 2.0)),), llama, **changes)


def write_released(folder):
    """Write a released checkpoint with its own tensor names and configuration."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    tensors = {
        f'toy.{name}': x.contiguous() for name, x in ToyModel(toy_config()).state_dict().items()
    }
    save_file(tensors, folder / 'model.safetensors')
    (folder / 'config.json').write_text(json.dumps({'model_type': 'toy', 'released_by': 'nobody'}))
    write_llama_tokenizer(folder)


def picture(seed: int) -> np.ndarray:
    """uint8 [48, 64, 3] of noise."""
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


TOY = Family(
    model_type='toy',
    title='Toy',
    config=ToyConfig,
    model=ToyModel,
    make_policy=make_policy,
    recognises=lambda released: 'released_by' in released,
    open_released=open_released,
    stages=stages,
    presets=(Preset('toy', 'a toy', toy_config(), text_tokens=5, visual_tokens=GRID**2),),
)
