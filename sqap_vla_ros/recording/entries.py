"""What the black box keeps: values of the package, turned into messages only when written."""

from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.policy import Observation


@dataclass(frozen=True)
class Observed:
    """What a policy was asked."""

    observation: Observation
    generation: int
    since_reset: int
    """Inferences since the policy was reset, this one not counted: 0 right after a reset."""
    budget: float
    """See `Policy.set_budget`."""


@dataclass(frozen=True)
class Answered:
    """What it answered."""

    chunk: ActionChunk
    latencies_ms: dict[str, float]
    age_s: float
    """From the observation's arrival to the answer."""
    tokens: int
    tokens_kept: int


@dataclass(frozen=True)
class Commanded:
    """What was sent: a twist, or joint velocities by name."""

    linear_m_s: np.ndarray | None = None
    angular_rad_s: np.ndarray | None = None
    joints: dict[str, float] | None = None
    gripper: float | None = None


@dataclass(frozen=True)
class Changed:
    """A change of state."""

    text: str
    """'HOLDING: stale input: ...'."""
