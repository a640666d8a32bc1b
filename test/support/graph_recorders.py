"""Stand-ins for a CUDA device: what a graph records, and what it must not contain."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TraceRecorder:
    """
    Records the operations of a function, and replays these and no Python.

    Whatever Python decided, and whatever number it held, is fixed at the recording, as in a CUDA
    graph.
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
    Lets only operations of the device pass, for which 'meta' stands.

    A capture is broken by a tensor that comes from the host, and by a number that Python reads.
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
