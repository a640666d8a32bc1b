"""The interface between models and what runs them: observation in, action chunk out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.columns import checked_columns, Column, GRIPPER, names_and_units, RATIO
from sqap_vla_ros.token_geometry import TokenGeometry


@dataclass(frozen=True)
class PolicySpec:
    """Inputs and outputs of a policy; fixed once it is loaded."""

    cameras: tuple[str, ...]
    """Names of the required images, for example `('camera',)`."""
    state_names: tuple[str, ...]
    """Names of the state's columns; empty when the policy takes no state."""
    state_units: tuple[str, ...]
    """Unit of each state column."""
    action: ActionSpec
    """What the chunks consist of."""
    visual_tokens: int
    """Visual tokens before pruning, over all cameras."""
    token_grid: tuple[int, int]
    """Rows and columns of the tokens of one camera."""
    continues: bool = False
    """Whether it uses `Observation.continuation`: true of heads that denoise a whole chunk."""
    state: tuple[Column, ...] = ()
    """Meaning of each state column; empty: what `columns_from_units` says of names and units."""
    token_geometry: TokenGeometry = TokenGeometry()
    """Where the tokens of a camera lie in its image."""
    words: tuple[str, ...] = ()
    """Every word that the policy knows, in lower case; empty: it reads any text."""
    max_words: int = 0
    """Words of an instruction that it reads, where `words` is not empty; 0: all of them."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, 'state', checked_columns(self.state, self.state_names, self.state_units)
        )

    def gripper(self, state: np.ndarray | None) -> float | None:
        """
        Find the gripper's position in a state.

        Args:
            state: [states], in the spec's order; None where the policy takes none.

        Returns:
            0 (open) .. 1 (closed); None where the state does not contain it.
        """
        if state is None or GRIPPER not in self.state_names:
            return None
        index = self.state_names.index(GRIPPER)
        column = self.state[index]
        return column.closure(float(state[index])) if column.quantity == RATIO else None


def state_fields(columns: Sequence[Column]) -> dict[str, Any]:
    """Return the fields of a `PolicySpec` that describe its state."""
    names, units = names_and_units(columns)
    return {'state_names': names, 'state_units': units, 'state': tuple(columns)}


@dataclass(frozen=True)
class Continuation:
    """Real-time chunking (arXiv 2506.07339): what a new chunk must agree with."""

    values: np.ndarray
    """float32 [horizon, actions], in the spec's units: rows of the chunk being executed; row 0
    begins at the observation."""
    weights: np.ndarray
    """float32 [horizon]; 1: the row is fixed, 0: it is free."""


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one moment."""

    images: dict[str, np.ndarray]
    """Camera name to uint8 [height, width, 3], RGB."""
    instruction: str
    """The task in words."""
    state: np.ndarray | None = None
    """float32 [states], in the spec's units."""
    cameras: dict[str, PinholeCamera] = field(default_factory=dict)
    """Cameras whose pose is known, by name; used by robot-aware token protection only."""
    end_effector_m: np.ndarray | None = None
    """float64 [3], base frame, metres; used by robot-aware token protection only."""
    stamp_ns: int = 0
    """When it was observed, nanoseconds; the chunk carries the same stamp."""
    continuation: Continuation | None = None
    """For policies with `PolicySpec.continues`; the others ignore it."""
    end_effector_xyzw: np.ndarray | None = None
    """float64 [4], quaternion (x y z w) in the base frame; not read by policies, but needed to
    turn actions in the frame of the end effector to the base."""


class Criterion(IntEnum):
    """Why a token was kept: the CRITERION_* values of TokenSelection.msg."""

    ATTENTION = 0
    ROBOT = 1
    SPATIAL = 2
    RANDOM = 3
    FEATURE = 4
    DIFFERENCE = 5


@dataclass(frozen=True)
class TokenSelection:
    """The visual tokens that one inference kept, and why."""

    grid: tuple[int, int]
    """Rows and columns of the tokens of one camera; the cameras' tokens follow each other."""
    kept: np.ndarray
    """int64 [kept], ascending token indices, row-major within a camera."""
    criterion: np.ndarray
    """uint8 [kept], the `Criterion` of each."""
    geometry: TokenGeometry = TokenGeometry()
    """Where the tokens of a camera lie in its image."""


@dataclass(frozen=True)
class Inference:
    """The result of one observation."""

    chunk: ActionChunk
    latencies_ms: dict[str, float]
    """
    Stage name to milliseconds: 'preprocess', 'vision', 'decoder', 'action_head', 'total'.

    'graph' replaces the three in the middle where they are one CUDA graph. On a GPU, stages that
    run one by one are timed until they have been launched, the last one until it has finished.
    """
    tokens: int
    """Visual tokens before pruning."""
    selection: TokenSelection | None = None
    """None when every token was kept."""
    note: str = ''
    """What the user should know of the instruction, in one line: that it was cut; mostly empty."""

    @property
    def tokens_kept(self) -> int:
        """Visual tokens after pruning."""
        return self.tokens if self.selection is None else len(self.selection.kept)


class Policy(ABC):
    """
    A loaded model on its device.

    Not thread-safe: the owner serialises calls. `predict` blocks on nothing but the device, and
    keeps no state between calls other than what `reset` clears.
    """

    spec: PolicySpec
    """Inputs and outputs of the policy."""

    @abstractmethod
    def predict(self, observation: Observation) -> Inference:
        """
        Run the model once.

        Args:
            observation: every image and state that `spec` names.

        Returns:
            The action chunk, with the observation's stamp, and how it was computed. The chunk
            holds non-finite values when the model produced them: check `chunk.finite`.

        Raises:
            UserError: the observation lacks an image or a state that `spec` names.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget earlier observations: call when the task or the scene changes."""

    def set_budget(self, share: float) -> None:
        """
        Scale the recipe's token budget from now on.

        A policy that does not prune keeps every token, whatever the share.

        Args:
            share: of the recipe's budget, 0 < share <= 1.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return name, recipe, bits, backend, parameter bytes and checkpoint hash, for logs."""

    @abstractmethod
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the range of the training data's actions: low and high, float32 [actions]."""

    @abstractmethod
    def typical_state(self) -> np.ndarray | None:
        """Return the training data's mean state, float32 [states]; None without a state."""
