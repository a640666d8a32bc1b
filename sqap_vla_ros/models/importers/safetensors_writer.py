"""A safetensors file, written tensor by tensor: no more than one is in memory."""

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

import torch

from sqap_vla_ros.files import replaced_file

_NAMES = {
    torch.float32: 'F32',
    torch.float16: 'F16',
    torch.bfloat16: 'BF16',
    torch.int8: 'I8',
    torch.uint8: 'U8',
    torch.int64: 'I64',
    torch.bool: 'BOOL',
}


def write_safetensors(
    path: Path,
    tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    read: Callable[[str], torch.Tensor],
    metadata: dict[str, str] | None = None,
) -> None:
    """
    Write one file, whole or not at all.

    The format is that of https://github.com/huggingface/safetensors#format.

    Args:
        path: of the file.
        tensors: type and shape of each tensor, in the order of the file.
        read: called once for each name, in that order; returns a tensor of that type and shape.
        metadata: written into the header.

    Raises:
        ValueError: `read` returned another type or shape.
    """
    header: dict[str, Any] = {}
    offset = 0
    if metadata:
        header['__metadata__'] = metadata
    for name, (dtype, shape) in tensors.items():
        size = dtype.itemsize * torch.Size(shape).numel()
        header[name] = {
            'dtype': _NAMES[dtype],
            'shape': list(shape),
            'data_offsets': [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with replaced_file(path) as partial, open(partial, 'wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for name, (dtype, shape) in tensors.items():
            tensor = read(name)
            if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                raise ValueError(
                    f'{name} is {tensor.dtype} {tuple(tensor.shape)}, announced '
                    f'as {dtype} {tuple(shape)}'
                )
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
