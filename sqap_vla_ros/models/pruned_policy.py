"""What every policy of a vision-language-action model does around its network."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.compression.pruning.protection import patch_distances_m
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.cuda_graphs import make_runner, StepRunner, Tensors
from sqap_vla_ros.models.layers.decoder import pruning_point, PruningPoint
from sqap_vla_ros.models.layers.guidance import Guide
from sqap_vla_ros.policy import Inference, Observation, Policy, PolicySpec, TokenSelection


class PrunedPolicy(Policy):
    """
    Token selection, input checks, units, and the way of an inference through host and device.

    Subclasses prepare what the model reads (`_inputs`), run the model (`_forward`), and say what
    its answer means (`_values`). They set `statistics`, which has `action_range`, `state_mean`
    and `normalise_action`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        spec: PolicySpec,
        layers: int,
        description: dict | None = None,
        cuda_graphs: str = 'auto',
    ) -> None:
        """
        Take over a loaded model.

        layers: of the decoder that visual tokens pass; cuda_graphs: see `make_runner`.
        """
        config = model.config
        self.model = model.eval().requires_grad_(False)
        self.spec = spec
        self._device = next(model.parameters()).device
        self._description = description or {}
        self._scale = np.array(config.action_scale or 1, np.float32)
        self._offset = np.array(config.action_offset or 0, np.float32)
        self._selector = self._make_selector(layers)
        self._runner = make_runner(self._step, self._device, cuda_graphs)
        self._stages: dict[str, float] = {}
        self.attention_listener: Callable[[torch.Tensor, torch.Tensor | None], None] | None = None
        """
        Called in each decoder layer behind the first with the task query's attention [left] to
        the visual tokens that are left there, and which these are, [left]; None: all.
        """

    @abstractmethod
    def _inputs(self, observation: Observation) -> Tensors:
        """Prepare what the model reads, on the host; shapes follow image size and text only."""

    @abstractmethod
    def _forward(self, tensors: Tensors, pruning: PruningPoint | None) -> Tensors:
        """
        Run the model on the device; must not wait for it, or copy from or to it.

        tensors: `_inputs`, on the device. Returns 'actions' and what else `_values` reads.
        """

    @abstractmethod
    def _values(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Make float32 [horizon, actions] in the spec's units of what `_forward` returned."""

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """See `Policy`."""
        latencies, started = {}, perf_counter()
        with timed(latencies, 'preprocess'):
            tensors, plan = self._inputs(observation), None
            if self._selector is not None:
                self._begin(observation)
                tensors, plan = {**tensors, **self._selector.tensors}, self._selector.plan
        self._stages = latencies
        # A listener is called by Python, which a replay does not run.
        runner = (
            self._runner
            if self.attention_listener is None
            else StepRunner(self._step, self._device)
        )
        with timed(latencies, 'graph'):
            outputs = runner(plan, tensors)
            if self._selector is not None:
                self._selector.take(outputs)
            values = self._values({name: outputs[name].cpu().numpy() for name in self._answers})
        if 'decoder' in latencies:  # run stage by stage
            del latencies['graph']
        latencies['total'] = (perf_counter() - started) * 1e3
        return Inference(
            ActionChunk(values, self.spec.action, observation.stamp_ns),
            latencies,
            self.spec.visual_tokens,
            self._selection(),
        )

    def _step(self, plan, tensors):
        """Run the device's part, of which `step_runner` tells."""
        if self._selector is None:
            return self._forward(tensors, self._listening(None))
        self._selector.bind(tensors)
        outputs = self._forward(tensors, self._listening(pruning_point(self._selector)))
        self._selector.end()
        return {**outputs, **self._selector.outputs()}

    _answers = ('actions',)
    """Of the tensors that `_forward` returns, those that `_values` reads."""

    def _stage(self, name: str):
        """Time a stage of `_forward`."""
        return timed(self._stages, name)

    def reset(self) -> None:
        """See `Policy`."""
        if self._selector is not None:
            self._selector.reset()

    def set_budget(self, share: float) -> None:
        """See `Policy`."""
        if self._selector is not None:
            self._selector.share = share

    def describe(self) -> dict:
        """See `Policy`."""
        return {**self._description, 'runtime': self._runner.runtime}

    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Policy`."""
        ends = [self._to_action_units(end) for end in self.statistics.action_range()]
        return np.minimum(*ends), np.maximum(*ends)

    def typical_state(self) -> np.ndarray | None:
        """See `Policy`."""
        return self.statistics.state_mean if self.spec.state_names else None

    def _make_selector(self, layers):
        recipe, tokens = self.model.pruning, self.spec.visual_tokens
        if recipe is None or recipe.kept(tokens) == recipe.kept(tokens, fine=True) == tokens:
            return None
        last = layers - 1 if recipe.relevance == 'temporal' else layers
        if recipe.layer > last:
            raise UserError(
                f'recipe: pruning layer is {recipe.layer}, expected 0..{last} for '
                f'this decoder of {layers} layers'
            )
        return TokenSelector(recipe, self.spec.token_grid, len(self.spec.cameras), self._device)

    def _begin(self, observation) -> None:
        """Tell the selector what is known of an inference."""
        gripper = None
        if observation.state is not None and 'gripper' in self.spec.state_names:
            gripper = float(observation.state[self.spec.state_names.index('gripper')])
        self._selector.begin(
            np.concatenate(
                [
                    patch_distances_m(
                        observation.cameras.get(name),
                        observation.end_effector_m,
                        self.spec.token_grid,
                    )
                    for name in self.spec.cameras
                ]
            ),
            observation.images[self.spec.cameras[0]],
            observation.instruction,
            observation.stamp_ns,
            observation.end_effector_m,
            gripper,
        )

    def _listening(self, point: PruningPoint | None) -> PruningPoint | None:
        """Let the listener, if there is one, hear what a pruning point hears."""
        selector, listener = self._selector, self.attention_listener
        if listener is None:
            return point
        if point is None:
            return PruningPoint(1, None, observe=lambda row: listener(row, None))

        def observe(row) -> None:
            if point.observe is not None:
                point.observe(row)
            kept = selector.kept
            listener(row, None if kept is None or point.select is None else kept.indices)

        return replace(point, observe=observe)

    def _selection(self) -> TokenSelection | None:
        kept = None if self._selector is None else self._selector.kept
        # Copied: a replay writes where the last one did.
        return kept and TokenSelection(
            self.spec.token_grid,
            kept.indices.cpu().numpy().copy(),
            kept.criterion.cpu().numpy().copy(),
        )

    def _image(self, observation: Observation, camera: str) -> np.ndarray:
        """uint8 [H, W, 3] of a camera. Raises UserError when it is not there."""
        if camera not in observation.images:
            raise UserError(f'observation has no image {camera!r}, which this policy needs')
        return np.ascontiguousarray(observation.images[camera])

    def _state(self, observation: Observation) -> np.ndarray:
        """float32 [states]. Raises UserError when it is not there or has other columns."""
        names = self.spec.state_names
        if observation.state is None or len(observation.state) != len(names):
            raise UserError(
                'observation has no state with the columns that this policy needs: '
                + ', '.join(names)
            )
        return np.asarray(observation.state, np.float32)

    def _continuation(self, observation: Observation) -> Tensors:
        """Say what the chunk is to agree with, if anything, for `_guide`."""
        wanted = observation.continuation
        if wanted is None:
            return {}
        values = self.statistics.normalise_action(self._to_dataset_units(wanted.values))
        weights = np.asarray(wanted.weights, np.float32)[:, None]
        return {
            'continued': torch.from_numpy(np.ascontiguousarray(values, np.float32)),
            'continued_weights': torch.from_numpy(weights),
        }

    @staticmethod
    def _guide(tensors: Tensors) -> Guide | None:
        """Guide to what `_continuation` gave; None for nothing."""
        if 'continued' not in tensors:
            return None
        return Guide(tensors['continued'], tensors['continued_weights'])

    def _to_dataset_units(self, values: np.ndarray) -> np.ndarray:
        """Units of the action spec to the dataset's, float32 [horizon, actions]."""
        return ((values - self._offset) / self._scale).astype(np.float32)

    def _to_action_units(self, values: np.ndarray) -> np.ndarray:
        """Dataset's units to those of the action spec, float32 [horizon, actions]."""
        return (values * self._scale + self._offset).astype(np.float32)


@contextmanager
def timed(latencies: dict[str, float], stage: str):
    """Store the milliseconds that the block took."""
    start = perf_counter()
    yield
    latencies[stage] = (perf_counter() - start) * 1e3
