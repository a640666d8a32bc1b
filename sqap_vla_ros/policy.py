"""The interface between a model and everything that runs one: observation in, action chunk out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs and what it gives; fixed once it is loaded."""

    cameras: tuple[str, ...]
    """Names of the images it needs, for example `('camera',)`."""
    state_names: tuple[str, ...]
    """Names of the state columns; empty when the policy takes no state."""
    state_units: tuple[str, ...]
    action: ActionSpec
    visual_tokens: int
    """Visual tokens before pruning, over all cameras."""
    token_grid: tuple[int, int]
    """Rows and columns of one camera's tokens."""
    continues: bool = False
    """Whether it heeds `Observation.continuation`: its head denoises a chunk as a whole."""

    def gripper(self, state: np.ndarray | None) -> float | None:
        """
        Look the gripper up in a state.

        Args:
            state: [states], in the spec's order; None where the policy takes none.

        Returns:
            0 open .. 1 closed; None where the state does not have it.
        """
        if state is None or 'gripper' not in self.state_names:
            return None
        return float(state[self.state_names.index('gripper')])


@dataclass(frozen=True)
class Continuation:
    """What a new chunk is to agree with: rows of the chunk that is being executed meanwhile."""

    values: np.ndarray
    """float32 [horizon, actions], in the spec's units; row 0 begins at the observation."""
    weights: np.ndarray
    """float32 [horizon], 1: this row is fixed, 0: it is free."""


@dataclass(frozen=True)
class Observation:
    """One moment as a policy sees it."""

    images: dict[str, np.ndarray]
    """Camera name to uint8 [height, width, 3], RGB."""
    instruction: str
    state: np.ndarray | None = None
    """float32 [states], in the spec's units."""
    cameras: dict[str, PinholeCamera] = field(default_factory=dict)
    """Cameras whose place is known; needed for robot-aware token protection only."""
    end_effector_m: np.ndarray | None = None
    """float64 [3], base frame, metres; needed for robot-aware token protection only."""
    stamp_ns: int = 0
    continuation: Continuation | None = None
    """For policies that can inpaint (`PolicySpec.continues`); others leave it alone."""


class Criterion(IntEnum):
    """Why a token was kept; the CRITERION_* values of TokenSelection.msg."""

    ATTENTION = 0
    ROBOT = 1
    SPATIAL = 2
    RANDOM = 3
    FEATURE = 4
    DIFFERENCE = 5


@dataclass(frozen=True)
class TokenSelection:
    """Which visual tokens one inference kept, and why."""

    grid: tuple[int, int]
    """Rows and columns of one camera's tokens; cameras follow one another."""
    kept: np.ndarray
    """int64 [kept], ascending token indices, row-major."""
    criterion: np.ndarray
    """uint8 [kept], a `Criterion` each."""


@dataclass(frozen=True)
class Inference:
    """The answer to one observation."""

    chunk: ActionChunk
    latencies_ms: dict[str, float]
    """
    Stage name to milliseconds: 'preprocess', 'vision', 'decoder', 'action_head', 'total'.

    'graph' in place of the three in the middle where they are one CUDA graph. On a GPU, stages
    that are run one by one count until they have been started, the last one until it has ended.
    """
    tokens: int
    """Visual tokens before pruning."""
    selection: TokenSelection | None = None
    """None when every token was kept."""

    @property
    def tokens_kept(self) -> int:
        """Visual tokens after pruning."""
        return self.tokens if self.selection is None else len(self.selection.kept)


class Policy(ABC):
    """
    A loaded model on its device.

    One thread at a time: the owner serialises calls. `predict` neither blocks on anything but
    the device nor keeps state across calls other than what `reset` clears.
    """

    spec: PolicySpec

    @abstractmethod
    def predict(self, observation: Observation) -> Inference:
        """
        Run the model once.

        Raises UserError when the observation lacks an image or state that the spec names.
        The chunk may hold non-finite values when the model produced them: callers check
        `chunk.finite`.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget everything that earlier observations left: call on a new task or scene cut."""

    def set_budget(self, share: float) -> None:
        """
        Keep only a share of the recipe's token budget from now on, 0 < share <= 1.

        A policy that does not prune keeps all of them, whatever the share.
        """

    @abstractmethod
    def describe(self) -> dict:
        """Name, recipe, bits, backend, parameter bytes and checkpoint hash, for logs and stats."""

    @abstractmethod
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Range of the training data's actions, low and high: float32 [actions], spec's units."""

    @abstractmethod
    def typical_state(self) -> np.ndarray | None:
        """Mean state of the training data, float32 [states]; None where none is needed."""
