"""`sqap_vla inspect`: the layers, sizes and recipe of a compressed policy."""

import argparse
from pathlib import Path
from typing import cast, TYPE_CHECKING

if TYPE_CHECKING:
    from sqap_vla_ros.compression.quantization.linear_format import LinearFormat
    from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('policy', type=Path, help='compressed policy directory')


def run(arguments: argparse.Namespace) -> int:
    """Load the checkpoint, which verifies it, and print its layers, sizes and recipe."""
    import yaml

    from sqap_vla_ros.compression.checkpoint import (
        float_parameter_bytes,
        load_compressed_into,
        parameter_bytes,
    )
    from sqap_vla_ros.compression.recipe_files import recipe_to_dict
    from sqap_vla_ros.models.config import load_config, model_without_weights
    from sqap_vla_ros.models.family import CONFIG_FILE

    model = model_without_weights(load_config(arguments.policy), arguments.policy / CONFIG_FILE)
    header = load_compressed_into(model, arguments.policy)
    rows = [_row(name, cast('QuantLinear', model.get_submodule(name))) for name in header.layers]
    width = max((len(row[0]) for row in rows), default=5)
    print(
        f'{"layer":{width}}  {"out x in":>12}  bits   group  rotation   packed kB  '
        'of fp16  of fp32'
    )
    for name, spec, size in rows:
        entries = spec.inputs * spec.outputs
        bits = f'W{spec.weight_bits}A{spec.activation_bits}'
        print(
            f'{name:{width}}  {f"{spec.outputs} x {spec.inputs}":>12}  {bits:5}  '
            f'{spec.weight_group or "-":>5}  {"Hadamard" if spec.rotated else "-":8}  '
            f'{size / 1e3:10.1f}  {size / entries / 2:7.3f}  {size / entries / 4:7.3f}'
        )
    entries = sum(spec.inputs * spec.outputs for _, spec, _ in rows)
    packed = sum(size for _, _, size in rows)
    if rows:
        print(
            f'quantized layers: {packed / 1e6:.3f} MB, {packed / entries / 2:.3f} of fp16, '
            f'{packed / entries / 4:.3f} of fp32'
        )
    whole, before = parameter_bytes(model), float_parameter_bytes(model)
    print(
        f'whole model: {whole / 1e6:.3f} MB, {2 * whole / before:.3f} of fp16, '
        f'{whole / before:.3f} of fp32'
    )
    print(f'base weights SHA-256: {header.base_sha256}')
    print(f'tensors SHA-256:      {header.tensors_sha256} (verified)')
    print('recipe:')
    for line in yaml.safe_dump(recipe_to_dict(header.recipe), sort_keys=False).splitlines():
        print(f'  {line}')
    return 0


def _row(name: str, layer: 'QuantLinear') -> 'tuple[str, LinearFormat, int]':
    """Name, format and size in bytes of a quantized layer."""
    tensors = [
        t
        for t in (layer.weight, layer.qweight, layer.wscale, layer.ascale, layer.rotation_signs)
        if t is not None
    ]
    return name, layer.format, sum(t.numel() * t.element_size() for t in tensors)
