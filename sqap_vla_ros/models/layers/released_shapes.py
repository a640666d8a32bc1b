"""Shapes of vision towers and decoders that several released models share."""

from sqap_vla_ros.models.layers.vision_config import VisionConfig

SO400M = {
    'hidden_size': 1152,
    'intermediate_size': 4304,
    'num_hidden_layers': 27,
    'num_attention_heads': 16,
    'image_size': 224,
    'patch_size': 14,
    'hidden_act': 'gelu_pytorch_tanh',
    'layer_norm_eps': 1e-6,
}
"""SigLIP's shape-optimized tower with 400 million parameters, at 224 pixels."""
DINO_SIGLIP = (
    VisionConfig(
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
    ),
    VisionConfig(
        'siglip',
        {**SO400M, 'hidden_act': 'gelu'},
        final_norm=False,
        drop_last_layers=1,
    ),
)
"""The two towers of Prismatic VLMs (arXiv 2402.07865)."""
LLAMA_2_7B = {
    'vocab_size': 32064,
    'hidden_size': 4096,
    'intermediate_size': 11008,
    'num_hidden_layers': 32,
    'num_attention_heads': 32,
    'num_key_value_heads': 32,
    'max_position_embeddings': 2048,
    'hidden_act': 'silu',
    'rms_norm_eps': 1e-5,
}
"""Llama 2 7B with the padded vocabulary, as Prismatic VLMs train it."""
