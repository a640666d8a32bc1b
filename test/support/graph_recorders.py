"""Stand-ins for a CUDA device: recording a graph, and detecting what a capture forbids."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TraceRecorder:
    """
    Records the tensor operations of a function and replays them without Python.

    Branches taken and numbers held by Python are fixed at the recording, as in a CUDA graph.
    """

    def __init__(self):
        self.recorded = 0

    def prepare(self, function, tensors):
        return function(tensors)

    def record(self, function, tensors):
        self.recorded += 1
        graph = make_fx(function)(tensors)
        outputs = {name: x.clone() for name, x in graph(tensors).items()}

        def replay():
            for name, x in graph(tensors).items():
                outputs[name].copy_(x)

        return outputs, replay


class HostForbidden(TorchDispatchMode):
    """
    Allows only operations on the device; the 'meta' device stands for it.

    A tensor on the host breaks a capture, and so does a value that Python reads back.
    """

    WAITING = {
        'aten._local_scalar_dense',
        'aten.nonzero',
        'aten.masked_select',
        'aten.equal',
        'aten.unique_consecutive',
        'aten._unique2',
        'aten.is_nonzero',
    }

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = f'{function.namespace}.{function._schema.name.split("::")[1]}'
        if name in self.WAITING:
            raise AssertionError(f'{name} waits for the device')
        found = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, found)) if isinstance(x, torch.Tensor)]
        if any(x.device.type != 'meta' for x in tensors):
            raise AssertionError(f'{name} uses a tensor of the host')
        return found
