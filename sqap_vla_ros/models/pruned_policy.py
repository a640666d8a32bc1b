"""Base class of the policies of all families: everything in an inference except the network."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.compression.pruning.protection import patch_distances_m
from sqap_vla_ros.compression.pruning.token_selector import TokenSelector
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.cuda_graphs import make_runner, StepRunner, Tensors
from sqap_vla_ros.models.layers.guidance import Guide
from sqap_vla_ros.models.layers.pruned_layers import pruning_point, PruningPoint
from sqap_vla_ros.policy import Inference, Observation, Policy, PolicySpec, TokenSelection
from sqap_vla_ros.runtime_options import RuntimeOptions


class ActionStatistics(Protocol):
    """The part of the dataset's statistics that a policy uses, in the dataset's units."""

    state_mean: np.ndarray
    """float32 [states]."""

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limit of the training data's actions, float32 [actions]."""

    def normalise_action(self, action: np.ndarray) -> np.ndarray:
        """Normalise actions [horizon, actions] as in the training of the model."""


class PrunedPolicy(Policy):
    """
    The steps of an inference that all families share, on the host and on the device.

    These are token selection, input checks and units. Subclasses prepare what the model reads
    (`_inputs`), run the model (`_forward`), interpret its output (`_values`), and set
    `statistics`.
    """

    statistics: Any
    """See `ActionStatistics`."""

    def __init__(
        self,
        model: torch.nn.Module,
        spec: PolicySpec,
        layers: int,
        description: dict[str, Any] | None = None,
        runtime: RuntimeOptions = RuntimeOptions(),
    ) -> None:
        """
        Take over a loaded model.

        Args:
            model: already on its device; has `config` and `pruning`.
            spec: inputs and outputs of the policy.
            layers: number of decoder layers that process visual tokens.
            description: returned by `describe`, together with how the policy runs.
            runtime: see `make_runner`.
        """
        config: Any = model.config
        self.model: Any = model.eval().requires_grad_(False)
        self.spec = spec
        self._device = next(model.parameters()).device
        self._description = description or {}
        self._scale = np.array(config.action_scale or 1, np.float32)
        self._offset = np.array(config.action_offset or 0, np.float32)
        self._selector = self._make_selector(layers)
        self._runner = make_runner(self._step, self._device, runtime)
        self._stages: dict[str, float] = {}
        self._noted = '', ''
        self.attention_listener: Callable[[torch.Tensor, torch.Tensor | None], None] | None = None
        """
        Listener to the attention of the task query, called in each decoder layer after the first.

        Its arguments are the attention [left] to the visual tokens that remain in that layer, and
        the indices [left] of these tokens, or None if all remain.
        """

    @abstractmethod
    def _inputs(self, observation: Observation) -> Tensors:
        """
        Prepare what the model reads, on the host.

        Shapes may depend only on the size of the images and the length of the text.
        """

    @abstractmethod
    def _forward(self, tensors: Tensors, pruning: PruningPoint | None) -> Tensors:
        """
        Run the model on the device, without waiting for it or copying to or from the host.

        Args:
            tensors: what `_inputs` returned, on the device.
            pruning: where visual tokens are removed; None to keep all.

        Returns:
            'actions', and the other tensors named in `_answers`.
        """

    @abstractmethod
    def _values(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Convert the answers of `_forward` to float32 [horizon, actions] in the spec's units."""

    def _origin(self, observation: Observation) -> np.ndarray | None:
        """
        Return what the model's actions are offsets from, in the dataset's units.

        Returns:
            float32 [actions], 0 where a column is absolute; None: all are.
        """
        return None

    def _cut(self, instruction: str) -> str:
        """Say in one line what of an instruction the model does not read; empty: nothing."""
        return ''

    def _note(self, instruction: str) -> str:
        """Return `_cut`, which is computed once for each instruction."""
        if self._noted[0] != instruction:
            self._noted = instruction, self._cut(instruction)
        return self._noted[1]

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """See `Policy`."""
        latencies: dict[str, float] = {}
        started = perf_counter()
        with stage_timer(latencies, 'preprocess'):
            tensors, plan = self._inputs(observation), None
            if self._selector is not None:
                self._begin(observation)
                tensors, plan = {**tensors, **self._selector.tensors}, self._selector.plan
        self._stages = latencies
        # A listener is a Python function, and replaying a CUDA graph does not call it.
        runner = (
            self._runner
            if self.attention_listener is None
            else StepRunner(self._step, self._device)
        )
        with stage_timer(latencies, 'graph'):
            outputs = runner(plan, tensors)
            if self._selector is not None:
                self._selector.take(outputs)
            values = self._values({name: outputs[name].cpu().numpy() for name in self._answers})
            origin = self._origin(observation)
            if origin is not None:
                values = values + self._scale * origin
        if 'decoder' in latencies:  # run stage by stage
            del latencies['graph']
        latencies['total'] = (perf_counter() - started) * 1e3
        return Inference(
            ActionChunk(values, self.spec.action, observation.stamp_ns),
            latencies,
            self.spec.visual_tokens,
            self._selection(),
            self._note(observation.instruction),
        )

    def _step(self, plan: Hashable, tensors: Tensors) -> Tensors:
        """Run the part on the device; see `cuda_graphs`."""
        if self._selector is None:
            return self._forward(tensors, self._with_listener(None))
        self._selector.bind(tensors)
        outputs = self._forward(tensors, self._with_listener(pruning_point(self._selector)))
        self._selector.end()
        return {**outputs, **self._selector.outputs()}

    _answers: tuple[str, ...] = ('actions',)
    """Tensors that `_forward` returns and `_values` reads."""

    def _stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage of `_forward`."""
        return stage_timer(self._stages, name)

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
        origin = self._origin(Observation({}, '', self.typical_state()))
        if origin is not None:
            ends = [end + self._scale * origin for end in ends]
        return np.minimum(*ends), np.maximum(*ends)

    def typical_state(self) -> np.ndarray | None:
        """See `Policy`."""
        return self.statistics.state_mean if self.spec.state_names else None

    def _make_selector(self, layers: int) -> TokenSelector | None:
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

    def _begin(self, observation: Observation) -> None:
        """Pass the selector what is known before an inference."""
        assert self._selector is not None
        for name in self.spec.cameras:
            height, width = observation.images[name].shape[:2]
            camera = observation.cameras.get(name)
            if camera is not None and (camera.width, camera.height) != (width, height):
                raise UserError(
                    f'observation: camera {name!r} is of {camera.width} x {camera.height} pixels, '
                    f'its image of {width} x {height}; give the intrinsics of this image'
                )
        self._selector.begin(
            np.concatenate(
                [
                    patch_distances_m(
                        observation.cameras.get(name),
                        observation.end_effector_m,
                        self.spec.token_grid,
                        self.spec.token_geometry,
                    )
                    for name in self.spec.cameras
                ]
            ),
            observation.images[self.spec.cameras[0]],
            observation.instruction,
            observation.stamp_ns,
            observation.end_effector_m,
            self.spec.gripper(observation.state),
        )

    def _with_listener(self, point: PruningPoint | None) -> PruningPoint | None:
        """Let the attention listener, if there is one, observe what the pruning point observes."""
        selector, listener = self._selector, self.attention_listener
        if listener is None:
            return point
        if point is None:
            return PruningPoint(1, None, observe=lambda row: listener(row, None))

        def observe(row: torch.Tensor) -> None:
            if point.observe is not None:
                point.observe(row)
            kept = None if selector is None else selector.kept
            listener(row, None if kept is None or point.select is None else kept.indices)

        return replace(point, observe=observe)

    def _selection(self) -> TokenSelection | None:
        kept = None if self._selector is None else self._selector.kept
        # Copied: the next replay overwrites these tensors.
        return kept and TokenSelection(
            self.spec.token_grid,
            kept.indices.cpu().numpy().copy(),
            kept.criterion.cpu().numpy().copy(),
            self.spec.token_geometry,
        )

    def _image(self, observation: Observation, camera: str) -> np.ndarray:
        """Get a camera's image, uint8 [H, W, 3]. Raises UserError if it is missing."""
        if camera not in observation.images:
            raise UserError(f'observation has no image {camera!r}, which this policy needs')
        # A copy of what cannot be written to, of which torch warns.
        return np.require(observation.images[camera], requirements=['C', 'W'])

    def _state(self, observation: Observation) -> np.ndarray:
        """Get the state, float32 [states]. Raises UserError if columns are missing."""
        names = self.spec.state_names
        if observation.state is None or len(observation.state) != len(names):
            raise UserError(
                'observation has no state with the columns that this policy needs: '
                + ', '.join(names)
            )
        return np.asarray(observation.state, np.float32)

    def _continuation(self, observation: Observation) -> Tensors:
        """Tensors of the chunk to continue, for `_guide`; empty if there is none."""
        wanted = observation.continuation
        if wanted is None:
            return {}
        values = self._to_dataset_units(wanted.values)
        origin = self._origin(observation)
        if origin is not None:  # the chunk is absolute, and the model's offsets are from now
            values = values - origin
        values = self.statistics.normalise_action(values)
        weights = np.asarray(wanted.weights, np.float32)[:, None]
        return {
            'continued': torch.from_numpy(np.ascontiguousarray(values, np.float32)),
            'continued_weights': torch.from_numpy(weights),
        }

    @staticmethod
    def _guide(tensors: Tensors) -> Guide | None:
        """Guide towards the chunk of `_continuation`; None if there is none."""
        if 'continued' not in tensors:
            return None
        return Guide(tensors['continued'], tensors['continued_weights'])

    def _to_dataset_units(self, values: np.ndarray) -> np.ndarray:
        """Convert units of the action spec to the dataset's, float32 [horizon, actions]."""
        return ((values - self._offset) / self._scale).astype(np.float32)

    def _to_action_units(self, values: np.ndarray) -> np.ndarray:
        """Convert the dataset's units to those of the action spec, float32 [horizon, actions]."""
        return (values * self._scale + self._offset).astype(np.float32)


@contextmanager
def stage_timer(latencies: dict[str, float], stage: str) -> Iterator[None]:
    """Store the duration of the block in milliseconds."""
    start = perf_counter()
    yield
    latencies[stage] = (perf_counter() - start) * 1e3
