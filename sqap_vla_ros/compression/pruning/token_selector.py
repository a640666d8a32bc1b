"""Token selection by a pruning recipe, from one inference to the next."""

import numpy as np
import torch

from sqap_vla_ros.compression.pruning.coverage import feature_separation, grid_separation
from sqap_vla_ros.compression.pruning.criteria import (
    all_for,
    draw_tokens,
    Kept,
    select_by_criteria,
    select_top,
)
from sqap_vla_ros.compression.pruning.phase import PhaseGate
from sqap_vla_ros.compression.pruning.relevance import difference_from_mean
from sqap_vla_ros.compression.pruning.score_history import SceneWatch, ScoreHistory
from sqap_vla_ros.compression.recipe import PruningRecipe
from sqap_vla_ros.policy import Criterion


class TokenSelector:
    """
    Chooses the visual tokens of each inference.

    For each inference, call `begin`; while the model runs, call `select` if `selects` is true, and
    `observe` in every later layer if `observes` is true; then call `end`. `kept` is the outcome,
    None if all tokens stayed. An instance belongs to the thread that runs the model.

    From `select` to `end`, two inferences with the same `plan` differ in `tensors` only, and
    nothing waits for the device. This part can be replayed as a CUDA graph: `bind` the graph's
    tensors, record, and hand the `outputs` of each replay to `take`.
    """

    def __init__(
        self,
        recipe: PruningRecipe,
        grid: tuple[int, int],
        cameras: int = 1,
        device: torch.device | str = 'cpu',
    ) -> None:
        """
        Prepare for the first inference.

        Args:
            recipe: what to keep, and by which criteria.
            grid: rows and columns of patches of one camera.
            cameras: number of cameras; their tokens follow each other.
            device: where the model runs.
        """
        self.recipe = recipe
        self.tokens = grid[0] * grid[1] * cameras
        scored = recipe.method != 'random'
        self.needs_attention = scored and recipe.relevance == 'attention'
        self.observes = scored and recipe.relevance == 'temporal'
        self._separation = grid_separation(grid, cameras).to(device)
        self._history = ScoreHistory(recipe.smoothing)
        self._scene = SceneWatch()
        self._phase = PhaseGate(recipe.fine_speed_m_s) if recipe.fine_ratio is not None else None
        self.share = 1.0
        """Share of the recipe's budget that may be used, 0 < share <= 1."""
        self.reset()

    def reset(self) -> None:
        """Forget earlier inferences."""
        self._generator = torch.Generator().manual_seed(self.recipe.seed)
        self._history.reset()
        self._scene.reset()
        if self._phase is not None:
            self._phase.reset()
        self.kept: Kept | None = None
        self.tensors: dict[str, torch.Tensor] = {}
        """The inputs of this inference's choice, by name."""

    @property
    def remembers(self) -> bool:
        """Whether earlier inferences count, so that `begin` needs the image and instruction."""
        return self.observes or (self.needs_attention and self.recipe.smoothing > 0)

    def begin(
        self,
        distances_m: np.ndarray | None = None,
        image: np.ndarray | None = None,
        instruction: str = '',
        stamp_ns: int = 0,
        end_effector_m: np.ndarray | None = None,
        gripper: float | None = None,
    ) -> None:
        """
        Take what is known about this inference before the model runs.

        Args:
            distances_m: [tokens], distance of each patch to the projected end effector, metres;
                None if not known.
            image: uint8 [H, W, 3], RGB; None if not known.
            instruction: the task in words.
            stamp_ns: time of the observation, nanoseconds.
            end_effector_m: [3], base frame, metres; None if not known.
            gripper: 0 open .. 1 closed; None if not known.
        """
        self.kept, self._observed = None, []
        if self.remembers and image is not None and self._scene.changed(image, instruction):
            self._history.reset()
        fine = self._phase is not None and self._phase.fine(stamp_ns, end_effector_m, gripper)
        self.budget = max(1, round(self.share * self.recipe.kept(self.tokens, fine)))
        if distances_m is None:
            distances_m = np.full(self.tokens, np.inf)
        radius = self.recipe.protection_radius_m
        protection = np.where((distances_m <= radius) & (radius > 0), distances_m, np.inf)
        self.tensors = {'protection': torch.from_numpy(protection).float()}
        if self.recipe.method == 'random' and self.budget < self.tokens:
            self.tensors['drawn'] = draw_tokens(self.tokens, self.budget, self._generator)
        if self._history.scores is not None:
            self.tensors['scores'] = self._history.scores

    @property
    def selects(self) -> bool:
        """Whether this inference is pruned; valid after `begin`."""
        known = not self.observes or self._history.scores is not None
        return known and self.budget < self.tokens

    @property
    def plan(self) -> tuple[int, bool]:
        """How many tokens this inference keeps, and whether it has scores of earlier ones."""
        return self.budget if self.selects else self.tokens, self._history.scores is not None

    def bind(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restart the inference with other tensors, on the device, in place of `tensors`."""
        self.kept, self._observed, self.tensors = None, [], tensors
        self._history.scores = tensors.get('scores')

    def outputs(self) -> dict[str, torch.Tensor]:
        """State for the next inference, and the tokens kept; valid after `end`."""
        found = {} if self._history.scores is None else {'scores': self._history.scores}
        if self.kept is not None:
            found |= {'kept': self.kept.indices, 'criterion': self.kept.criterion}
        return found

    def take(self, outputs: dict[str, torch.Tensor]) -> None:
        """Take the `outputs` of an inference that ran elsewhere, such as in a CUDA graph."""
        self._history.scores = outputs.get('scores')
        self.kept = Kept(outputs['kept'], outputs['criterion']) if 'kept' in outputs else None

    def select(self, attention: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor:
        """
        Choose the tokens to keep.

        Args:
            attention: [tokens], attention of the task query; None if `needs_attention` is false.
            features: [tokens, width], the visual tokens at the pruning layer.

        Returns:
            int64 [budget], ascending.
        """
        recipe = self.recipe
        if recipe.method == 'random':
            self.kept = all_for(Criterion.RANDOM, self.tensors['drawn'].to(features.device))
            return self.kept.indices
        scores, relevance = self._scores(attention, features)
        if recipe.method == 'top':
            self.kept = select_top(scores, self.budget, relevance)
            return self.kept.indices
        by_feature = recipe.coverage == 'feature'
        self.kept = select_by_criteria(
            scores,
            self.tensors['protection'].to(features.device),
            feature_separation(features) if by_feature else self._separation,
            self.budget,
            round(recipe.relevance_share * self.budget),
            relevance,
            Criterion.FEATURE if by_feature else Criterion.SPATIAL,
        )
        return self.kept.indices

    def observe(self, attention: torch.Tensor) -> None:
        """Add one layer's attention of the task query to the tokens that are left, [kept]."""
        self._observed.append(attention)

    def end(self) -> None:
        """Add the observed attention to the history."""
        if self._observed:
            self._history.add(
                torch.stack(self._observed).mean(0),
                None if self.kept is None else self.kept.indices,
            )

    def _scores(
        self, attention: torch.Tensor | None, features: torch.Tensor
    ) -> tuple[torch.Tensor, Criterion]:
        if self.recipe.relevance == 'difference':
            return difference_from_mean(features), Criterion.DIFFERENCE
        if self.recipe.relevance == 'temporal':
            assert self._history.scores is not None, 'select was called although selects is false'
            return self._history.scores, Criterion.ATTENTION
        assert attention is not None, 'attention is None although needs_attention is true'
        return self._history.add(attention) if self.remembers else attention, Criterion.ATTENTION
