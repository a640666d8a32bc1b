"""A safetensors file, written tensor by tensor: no more than one is in memory."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import tempfile

import torch

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
    Write one file.

    tensors: type and shape of each, in the order of the file; read: called once a name, in that
    order, returns a tensor of that type and shape. The file appears under its name only when it
    is whole. The format is that of https://github.com/huggingface/safetensors#format.
    """
    header, offset = {}, 0
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
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with open(handle, 'wb') as file:
            file.write(len(text).to_bytes(8, 'little') + text)
            for name, (dtype, shape) in tensors.items():
                tensor = read(name)
                if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
                    raise ValueError(
                        f'{name} is {tensor.dtype} {tuple(tensor.shape)}, announced '
                        f'as {dtype} {tuple(shape)}'
                    )
                file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
