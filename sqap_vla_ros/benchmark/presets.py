"""Model shapes that can be measured; weights are random but for the shipped policy."""

from dataclasses import dataclass, field

from sqap_vla_ros.models.config import (
    ActionHeadConfig,
    CogActConfig,
    OpenVlaConfig,
    Pi0Config,
    VisionConfig,
)


@dataclass(frozen=True)
class Preset:
    """A model and the size of its prompt."""

    name: str
    summary: str
    config: object | None
    """Configuration of a model family, or LlamaConfig's arguments for a bare decoder."""
    text_tokens: int = 0
    """Tokens of the prompt after the visual ones."""
    visual_tokens: int = 256
    state: tuple[str, ...] = field(default=())


_DINO = VisionConfig(
    'dinov2',
    {
        'hidden_size': 1024,
        'num_hidden_layers': 24,
        'num_attention_heads': 16,
        'image_size': 224,
        'patch_size': 14,
        'hidden_act': 'gelu',
        'layer_norm_eps': 1e-6,
        'num_register_tokens': 4,
        'layerscale_value': 1.0,
        'mlp_ratio': 4,
    },
    final_norm=False,
    drop_last_layers=1,
)
_SO400M = {
    'hidden_size': 1152,
    'intermediate_size': 4304,
    'num_hidden_layers': 27,
    'num_attention_heads': 16,
    'image_size': 224,
    'patch_size': 14,
}
_SIGLIP = VisionConfig(
    'siglip',
    {**_SO400M, 'hidden_act': 'gelu', 'layer_norm_eps': 1e-6},
    final_norm=False,
    drop_last_layers=1,
)
_LLAMA_2_7B = {
    'vocab_size': 32064,
    'hidden_size': 4096,
    'intermediate_size': 11008,
    'num_hidden_layers': 32,
    'num_attention_heads': 32,
    'num_key_value_heads': 32,
    'max_position_embeddings': 2048,
}
_COLUMNS = ('x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper')


def _gemma(width, inner):
    return {
        'model_type': 'gemma',
        'hidden_size': width,
        'intermediate_size': inner,
        'num_hidden_layers': 18,
        'head_dim': 256,
        'num_attention_heads': 8,
        'num_key_value_heads': 1,
        'hidden_act': 'gelu_pytorch_tanh',
        'vocab_size': 257152,
    }


PRESETS = {
    preset.name: preset
    for preset in (
        Preset('shipped', 'the policy that ships with the package, end to end', None),
        Preset(
            'decoder-0.5b',
            'a decoder of 0.5 billion parameters, 290 tokens',
            {
                'vocab_size': 32,
                'hidden_size': 1024,
                'intermediate_size': 8192,
                'num_hidden_layers': 18,
                'num_attention_heads': 8,
                'num_key_value_heads': 1,
                'head_dim': 128,
                'max_position_embeddings': 512,
            },
            text_tokens=34,
        ),
        Preset(
            'pi0',
            'pi0 with two cameras, chunks of 50, 10 flow steps',
            Pi0Config(
                model={
                    'vlm_config': {
                        'model_type': 'paligemma',
                        'projection_dim': 2048,
                        'image_token_index': 257152,
                        'vision_config': {
                            **_SO400M,
                            'model_type': 'siglip_vision_model',
                            'vision_use_head': False,
                        },
                        'text_config': _gemma(2048, 16384),
                    },
                    'dit_config': _gemma(1024, 4096),
                    'chunk_size': 50,
                    'max_state_dim': 32,
                    'max_action_dim': 32,
                },
                cameras=('base', 'wrist'),
            ),
            text_tokens=20,
            visual_tokens=512,
        ),
        Preset(
            'cogact-7b',
            'CogACT: Llama 2 7B, DiT-B, 10 steps with guidance',
            CogActConfig(
                vision=(_DINO, _SIGLIP),
                llama=_LLAMA_2_7B,
                image_size=224,
                projector='fused-gelu-mlp',
                text='prismatic',
                action_names=_COLUMNS,
                action_units=('1',) * 7,
                action_head=ActionHeadConfig(hidden_size=768, depth=12, heads=12),
            ),
            text_tokens=32,
        ),
        Preset(
            'openvla-7b',
            'OpenVLA: Llama 2 7B, 7 action tokens',
            OpenVlaConfig(
                vision=(_DINO, _SIGLIP),
                llama=_LLAMA_2_7B,
                image_size=224,
                action_names=_COLUMNS,
                action_units=('1',) * 7,
            ),
            text_tokens=33,
        ),
    )
}
