"""What can be measured: the shipped policy, a bare decoder, and the presets of the families."""

from dataclasses import dataclass
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.family import Preset
from sqap_vla_ros.models.registry import all_families


@dataclass(frozen=True)
class BareDecoderConfig:
    """Decoder layers alone; see `bare_decoder`."""

    llama: dict[str, Any]
    """Keyword arguments of transformers' LlamaConfig."""
    model_type: str = 'bare_decoder'


SHIPPED = Preset('shipped', 'the policy that ships with the package, end to end', None)
"""Has no configuration: the policy directory has it, and the weights are not random."""
DECODER = Preset(
    'decoder-0.5b',
    'a decoder of 0.5 billion parameters, 290 tokens',
    BareDecoderConfig(
        {
            'vocab_size': 32,
            'hidden_size': 1024,
            'intermediate_size': 8192,
            'num_hidden_layers': 18,
            'num_attention_heads': 8,
            'num_key_value_heads': 1,
            'head_dim': 128,
            'max_position_embeddings': 512,
        }
    ),
    text_tokens=34,
)


def all_presets() -> dict[str, Preset]:
    """List the presets by name, those of the registered families last."""
    presets = [SHIPPED, DECODER, *(p for family in all_families() for p in family.presets)]
    return {preset.name: preset for preset in presets}


def find_preset(name: str) -> Preset:
    """Look a preset up. Raises UserError that lists the names."""
    presets = all_presets()
    if name not in presets:
        raise UserError(f'preset is {name!r}, expected one of {", ".join(presets)}')
    return presets[name]
