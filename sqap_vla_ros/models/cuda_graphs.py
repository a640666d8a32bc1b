"""
How the device's part of an inference runs: operation by operation, or replayed as a CUDA graph.

A step is a function of a plan (what Python decides: hashable) and of tensors. With the same plan
and the same shapes it runs the same operations, so that they can be recorded once. Python and its
launches, tens of milliseconds for a large model, then cost a single call.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
import logging
from typing import Protocol

import torch

from sqap_vla_ros.errors import UserError

Tensors = dict[str, torch.Tensor]
Step = Callable[[Hashable, Tensors], Tensors]

CUDA_GRAPHS = ('auto', 'on', 'off')
"""
'auto': on CUDA devices, where recording works; 'on': an error where it does not; 'off': never.
"""

_MOST_RECORDINGS = 32
"""Plans times shapes: the governor's levels, with and without history and continuation."""
_TOLERANCE = 0.02
"""How far a replay may be from the same step run directly, as a share of its largest value."""


class StepRunner:
    """Runs a step directly. One thread at a time."""

    runtime = 'eager'
    """How steps run, for logs and statistics."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device

    def __call__(self, plan: Hashable, tensors: Tensors) -> Tensors:
        """
        Run the step; tensors from the host are uploaded first.

        The tensors that are returned hold until the next call.
        """
        return self._step(plan, {name: x.to(self._device) for name, x in tensors.items()})


class Recorder(Protocol):
    """What records and replays."""

    def prepare(self, function: Callable[[Tensors], Tensors], tensors: Tensors) -> Tensors:
        """Run it once where it is going to be recorded, so that nothing is made for the first."""

    def record(
        self, function: Callable[[Tensors], Tensors], tensors: Tensors
    ) -> tuple[Tensors, Callable[[], None]]:
        """
        Record it as it reads these tensors.

        Returns its tensors, and what runs it again: from the one to the other, where they are.
        """


class CudaRecorder:
    """Records by hand into CUDA graphs that share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def prepare(self, function: Callable[[Tensors], Tensors], tensors: Tensors) -> Tensors:
        """See `Recorder`."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = function(tensors)
        current.wait_stream(self._stream)
        return found

    def record(
        self, function: Callable[[Tensors], Tensors], tensors: Tensors
    ) -> tuple[Tensors, Callable[[], None]]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: only this one's mistakes are errors.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode='thread_local'
        ):
            found = function(tensors)
        return found, graph.replay


class GraphRunner(StepRunner):
    """
    Runs a plan directly the first time, records it the second, and replays it from then on.

    So the answer to a plan that is new, a lowered token budget for example, is late only by the
    launches that the replay saves. Before a recording is used, its answer is compared with that
    of the step itself.
    """

    runtime = 'cuda_graph'

    def __init__(self, step: Step, device: torch.device, recorder: Recorder, strict: bool) -> None:
        """Strict: raise UserError where recording fails, instead of running directly for good."""
        super().__init__(step, device)
        self._recorder, self._strict = recorder, strict
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

    def __init__(self, step, plan, tensors, device, recorder) -> None:
        self._inputs = {name: torch.empty_like(x, device=device) for name, x in tensors.items()}
        # Page-locked, so that an upload does not wait. A replay's answer is fetched before the
        # next upload, so nothing here is overwritten while it is being read.
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

    def __call__(self, tensors):
        self._load(tensors)
        self._replay()
        return self.outputs

    def _load(self, tensors) -> None:
        for name, x in tensors.items():
            if name in self._staging:
                x = self._staging[name].copy_(x)
            self._inputs[name].copy_(x, non_blocking=True)


def _compare(found, expected) -> None:
    for name, right in expected.items():
        if not right.is_floating_point():
            continue
        difference = (found[name] - right).abs().max()
        if not difference <= _TOLERANCE * right.abs().max() and right.isfinite().all():
            raise RuntimeError(f'its replay differs in {name!r} by {float(difference):.3g}')


def make_runner(step: Step, device: torch.device, cuda_graphs: str = 'auto') -> StepRunner:
    """
    Runner for a device; cuda_graphs: one of `CUDA_GRAPHS`.

    Raises UserError for another word, and for 'on' without a CUDA device.
    """
    if cuda_graphs not in CUDA_GRAPHS:
        raise UserError(
            f'cuda_graphs is {cuda_graphs!r}, expected one of {", ".join(CUDA_GRAPHS)}'
        )
    if device.type == 'cuda' and cuda_graphs != 'off':
        return GraphRunner(step, device, CudaRecorder(device), cuda_graphs == 'on')
    if cuda_graphs == 'on':
        raise UserError(
            f"cuda_graphs is on, but the device is {device}; set it to 'auto', or device to 'cuda'"
        )
    return StepRunner(step, device)
