"""
Arguments of transformers classes that a configuration may have, with their ranges.

A `config.json` comes from somebody else, and transformers obeys many fields: some load code by
name, some change types or attention. Only what is listed here reaches it, and every size is
bounded before a module is built.
"""

from collections.abc import Mapping
import math
from typing import Any

from sqap_vla_ros.errors import shown

LARGEST_GRID = 64
"""Rows, and columns, of patches of an image: attention needs the fourth power of it."""
LARGEST_ROWS = 10_000
"""Rows of a chunk."""
LARGEST_STEPS = 1000
"""Denoising steps."""
LARGEST_TOKENS = 1024
"""Tokens of a prompt."""
LARGEST_COLUMNS = 1024
"""Columns of a state or an action."""
_COUNT, _WIDTH, _LAYERS, _HEADS = (1, 2**21), (1, 2**16), (1, 256), (1, 512)
_ACTIVATIONS = ('gelu', 'gelu_new', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'silu')
_EPSILON = (0.0, 1.0)

_LAYER: dict[str, Any] = {
    'hidden_size': _WIDTH,
    'num_hidden_layers': _LAYERS,
    'num_attention_heads': _HEADS,
    'hidden_act': _ACTIVATIONS,
}
_TOWER = _LAYER | {
    'image_size': (1, 4096),
    'patch_size': (1, 4096),
    'layer_norm_eps': _EPSILON,
}
DECODER = _LAYER | {
    'intermediate_size': (1, 2**18),
    'vocab_size': _COUNT,
    'num_key_value_heads': _HEADS,
    'head_dim': (2, 2**12),
    'max_position_embeddings': _COUNT,
    'rms_norm_eps': _EPSILON,
}
"""Of LlamaConfig."""
GEMMA = DECODER | {'model_type': ('gemma',)}
SIGLIP = _TOWER | {
    'model_type': ('siglip_vision_model',),
    'intermediate_size': (1, 2**18),
    'projection_dim': _WIDTH,
    'vision_use_head': (False,),
}
DINOV2 = _TOWER | {
    'num_register_tokens': (0, 1024),
    'layerscale_value': (0.0, 1e3),
    'mlp_ratio': (1, 64),
}
TOWERS = {'siglip': SIGLIP, 'dinov2': DINOV2}


def check_arguments(name: str, given: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    """
    Check arguments of a transformers class.

    Args:
        name: of the field that holds them, for messages.
        given: the arguments.
        allowed: key to the range of a whole number (two ints) or of a number (two floats), or to
            its possible values.

    Raises:
        ValueError: names the first that is not allowed, and what is.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f'{name} is {shown(given)}, expected an object')
    for key, value in given.items():
        if key not in allowed:
            raise ValueError(f'{name}.{str(key)[:60]} is not known; known: {", ".join(allowed)}')
        expected = allowed[key]
        if not _is_range(expected):
            good = any(type(value) is type(one) and value == one for one in expected)
            words = f'one of {", ".join(map(repr, expected))}'
        else:
            low, high = expected
            whole = isinstance(low, int)
            number = isinstance(value, int if whole else int | float)
            # In this order: infinity and NaN, and numbers that are no float, are out of range.
            good = number and not isinstance(value, bool) and low <= value <= high
            words = f'{"a whole number, " if whole else ""}{low} .. {high}'
        if not good:
            raise ValueError(f'{name}.{key} is {shown(value)}, expected {words}')


def check_heads(name: str, width: int, heads: int, key_heads: int = 0, head: int = 0) -> None:
    """
    Check that attention heads share a width; sizes of tensors do not show all of it.

    Args:
        name: of the field that holds them, for messages.
        width: channels of all heads.
        heads: their number.
        key_heads: number of key heads; 0: as many.
        head: channels of one head, where they do not follow from the width; else 0.

    Raises:
        ValueError: they do not.
    """
    if (not head and width % heads) or heads % (key_heads or heads):
        raise ValueError(
            f'{name}: {width} channels, {heads} heads and {key_heads or heads} key heads do not '
            'fit together'
        )


def check_decoder(
    name: str, given: Mapping[str, Any], allowed: Mapping[str, Any] = DECODER
) -> None:
    """Check the arguments of a decoder, `DECODER` or `GEMMA`; raises ValueError."""
    check_arguments(name, given, allowed)
    width, heads = given.get('hidden_size', 0), given.get('num_attention_heads', 1)
    head = given.get('head_dim', 0)
    check_heads(name, width, heads, given.get('num_key_value_heads', 0), head)
    if (head or width // heads) % 2:
        raise ValueError(f'{name}: a head has {head or width // heads} channels, expected pairs')


def check_tower(name: str, given: Mapping[str, Any], kind: str) -> None:
    """Check the arguments of a vision tower, 'siglip' or 'dinov2'; raises ValueError."""
    if kind not in TOWERS:
        raise ValueError(f'{name}: kind is {shown(kind)}, expected one of {", ".join(TOWERS)}')
    check_arguments(name, given, TOWERS[kind])
    check_heads(name, given.get('hidden_size', 0), given.get('num_attention_heads', 1))
    size, patch = given.get('image_size'), given.get('patch_size')
    if size is not None and patch is not None and not 1 <= size // patch <= LARGEST_GRID:
        raise ValueError(
            f'{name}: an image of {size} pixels in patches of {patch}, expected 1 .. '
            f'{LARGEST_GRID} patches a side'
        )


def check_count(name: str, value: int, largest: int) -> None:
    """Check a number of rows, steps or tokens: 1 .. `largest`; raises ValueError."""
    if not 1 <= value <= largest:
        raise ValueError(f'{name} is {shown(value)}, expected 1 .. {largest}')


def _is_range(expected: Any) -> bool:
    return (
        len(expected) == 2
        and all(isinstance(end, int | float) and not isinstance(end, bool) for end in expected)
        and all(map(math.isfinite, expected))
    )
