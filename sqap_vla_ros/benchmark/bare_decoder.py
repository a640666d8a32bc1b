"""Decoder layers without a model around them, as a family of the benchmark's own."""

from pathlib import Path
from typing import Any, ClassVar

from transformers import LlamaConfig

from sqap_vla_ros.benchmark.presets import BareDecoderConfig
from sqap_vla_ros.models.family import BenchmarkInputs, Family, Preset, Stage
from sqap_vla_ros.models.layers.decoder import PrunableDecoder
from sqap_vla_ros.models.registry import family_of
from sqap_vla_ros.models.vla_model import VlaModel
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions


class BareDecoder(VlaModel):
    """Nothing but decoder layers."""

    target_roots: ClassVar[dict[str, tuple[str, ...]]] = {'decoder': ('decoder.llama.layers',)}
    grid = 16

    def __init__(self, config: BareDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = PrunableDecoder(LlamaConfig(**config.llama))

    @property
    def head_width(self) -> int:
        """See `VlaModel`."""
        first: Any = self.decoder.llama.layers[0]
        return int(first.self_attn.head_dim)

    def set_query_key_quantizer(self, quantizer: Any) -> None:
        """See `VlaModel`."""
        self.decoder.query_key_quantizer = quantizer


def _stages(model: BareDecoder, inputs: BenchmarkInputs) -> list[Stage]:
    """Make the one stage, on random embeddings of all tokens."""
    length = inputs.visual_tokens + inputs.text.shape[1]
    embeddings = inputs.noise(1, length, model.decoder.config.hidden_size)
    visual = slice(1, 1 + inputs.visual_tokens)
    return [
        (
            'decoder',
            lambda _: inputs.pruned(lambda point: model.decoder(embeddings, visual, point)),
        )
    ]


def _make_policy(
    model: BareDecoder, directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> Policy:
    raise NotImplementedError('a bare decoder is no policy')


BARE_DECODER = Family(
    model_type='bare_decoder',
    title='bare decoder',
    config=BareDecoderConfig,
    model=BareDecoder,
    make_policy=_make_policy,
    stages=_stages,
)
"""Not registered: there are no policies of it."""


def measured_family(preset: Preset) -> Family:
    """Find the family of a preset that has a configuration."""
    if preset.config.model_type == BARE_DECODER.model_type:
        return BARE_DECODER
    return family_of(preset.config.model_type)
