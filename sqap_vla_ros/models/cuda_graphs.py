"""
CUDA graphs: the device part of an inference is recorded once and then replayed.

A step is a function of a plan (everything that Python decides, hashable) and of tensors. With the
same plan and the same shapes it runs the same operations, so they can be recorded once. Python and
its kernel launches, tens of milliseconds for a large model, then become a single call.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
import logging
from typing import Protocol

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.runtime_options import RuntimeOptions

Tensors = dict[str, torch.Tensor]
Step = Callable[[Hashable, Tensors], Tensors]

CUDA_GRAPHS = ('auto', 'on', 'off')
"""
'auto': on CUDA devices, if recording works; 'on': an error if it does not work; 'off': never.
"""

_MOST_RECORDINGS = 32
"""Most recordings: one for each plan (governor level, history, continuation) and shape."""
_TOLERANCE = 0.02
"""Largest accepted difference of a replay from a direct run, as a share of the largest value."""


class StepRunner:
    """Runs a step directly. One thread at a time."""

    runtime = 'eager'
    """How steps are run, for logs and statistics."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device

    def __call__(self, plan: Hashable, tensors: Tensors) -> Tensors:
        """
        Run the step.

        Args:
            plan: everything about the step that Python decides.
            tensors: on the host or the device; uploaded if needed.

        Returns:
            Tensors on the device, valid until the next call.
        """
        return self._step(plan, {name: x.to(self._device) for name, x in tensors.items()})


class GraphRecorder(Protocol):
    """Records and replays a function of tensors."""

    def prepare(self, function: Callable[[Tensors], Tensors], tensors: Tensors) -> Tensors:
        """Run the function once where it will be recorded, so that recording allocates nothing."""

    def record(
        self, function: Callable[[Tensors], Tensors], tensors: Tensors
    ) -> tuple[Tensors, Callable[[], None]]:
        """
        Record the function with these tensors, whose addresses stay fixed.

        Returns:
            The outputs, and a function that replays from these inputs into these outputs.
        """


class CudaGraphRecorder:
    """Records into CUDA graphs that share one memory pool."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def prepare(self, function: Callable[[Tensors], Tensors], tensors: Tensors) -> Tensors:
        """See `GraphRecorder`."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = function(tensors)
        current.wait_stream(self._stream)
        return found

    def record(
        self, function: Callable[[Tensors], Tensors], tensors: Tensors
    ) -> tuple[Tensors, Callable[[], None]]:
        """See `GraphRecorder`."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile; only violations of this one are errors.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode='thread_local'
        ):
            found = function(tensors)
        return found, graph.replay


class CudaGraphRunner(StepRunner):
    """
    Runs a plan directly the first time, records it the second time, and then replays it.

    The first answer to a new plan, such as a lower token budget, is therefore delayed only by the
    kernel launches that a replay saves. Before a recording is used, its outputs are compared with
    those of a direct run.
    """

    runtime = 'cuda_graph'

    def __init__(
        self, step: Step, device: torch.device, recorder: GraphRecorder, strict: bool
    ) -> None:
        """strict: raise UserError if recording fails; otherwise run directly from then on."""
        super().__init__(step, device)
        self._recorder: GraphRecorder | None = recorder
        self._strict = strict
        self._seen: set[Hashable] = set()
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()

    def __call__(self, plan: Hashable, tensors: Tensors) -> Tensors:
        """See `StepRunner`."""
        key = plan, tuple((name, x.shape, x.dtype) for name, x in sorted(tensors.items()))
        recording = self._recordings.get(key)
        if recording is not None:
            self._recordings.move_to_end(key)
            return recording(tensors)
        if self._recorder is None or key not in self._seen:
            self._seen.add(key)
            return super().__call__(plan, tensors)
        try:
            recording = _Recording(self._step, plan, tensors, self._device, self._recorder)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:300]
            if self._strict:
                raise UserError(
                    f'cuda_graphs is on, but the step cannot be recorded: {reason}; '
                    "set it to 'auto' or 'off'"
                ) from None
            self._recorder, self.runtime = None, f'eager (recording failed: {reason})'
            logging.getLogger(__name__).warning(
                'CUDA graphs are not used from now on, which costs time only: %s', reason
            )
            self._recordings.clear()
            return super().__call__(plan, tensors)
        self._recordings[key] = recording
        if len(self._recordings) > _MOST_RECORDINGS:
            self._recordings.popitem(last=False)
        return recording.outputs


class _Recording:
    """One plan with tensors of fixed shapes, at fixed addresses."""

    def __init__(
        self,
        step: Step,
        plan: Hashable,
        tensors: Tensors,
        device: torch.device,
        recorder: GraphRecorder,
    ) -> None:
        self._inputs = {name: torch.empty_like(x, device=device) for name, x in tensors.items()}
        # Page-locked, so that an upload does not wait. The caller fetches an answer before the
        # next upload, so nothing here is overwritten while it is read.
        self._staging = {
            name: torch.empty_like(x, pin_memory=True)
            for name, x in tensors.items()
            if x.device.type == 'cpu' and device.type == 'cuda'
        }
        self._load(tensors)
        expected = recorder.prepare(lambda inputs: step(plan, inputs), self._inputs)
        self.outputs, self._replay = recorder.record(
            lambda inputs: step(plan, inputs), self._inputs
        )
        self._replay()
        _compare(self.outputs, expected)

    def __call__(self, tensors: Tensors) -> Tensors:
        self._load(tensors)
        self._replay()
        return self.outputs

    def _load(self, tensors: Tensors) -> None:
        for name, x in tensors.items():
            if name in self._staging:
                x = self._staging[name].copy_(x)
            self._inputs[name].copy_(x, non_blocking=True)


def _compare(found: Tensors, expected: Tensors) -> None:
    for name, right in expected.items():
        if not right.is_floating_point():
            continue
        difference = (found[name] - right).abs().max()
        if not difference <= _TOLERANCE * right.abs().max() and right.isfinite().all():
            raise RuntimeError(f'its replay differs in {name!r} by {float(difference):.3g}')


def make_runner(step: Step, device: torch.device, runtime: RuntimeOptions) -> StepRunner:
    """
    Choose how steps run on a device.

    Args:
        step: the part of an inference that runs on the device.
        device: where the model is.
        runtime: its `cuda_graphs` is one of `CUDA_GRAPHS`.

    Raises:
        UserError: `cuda_graphs` is another word, or 'on' without a CUDA device.
    """
    wanted = runtime.cuda_graphs
    if wanted not in CUDA_GRAPHS:
        raise UserError(f'cuda_graphs is {wanted!r}, expected one of {", ".join(CUDA_GRAPHS)}')
    if device.type == 'cuda' and wanted != 'off':
        return CudaGraphRunner(step, device, CudaGraphRecorder(device), wanted == 'on')
    if wanted == 'on':
        raise UserError(
            f"cuda_graphs is on, but the device is {device}; set it to 'auto', or device to 'cuda'"
        )
    return StepRunner(step, device)
