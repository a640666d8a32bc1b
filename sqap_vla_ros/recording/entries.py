"""Entries of the black box: plain values, converted to messages only when written."""

from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.policy import Observation


@dataclass(frozen=True)
class Observed:
    """An observation that was given to the policy."""

    observation: Observation
    generation: int
    since_reset: int
    """Inferences since the policy was reset, without this one: 0 right after a reset."""
    budget: float
    """See `Policy.set_budget`."""


@dataclass(frozen=True)
class Answered:
    """The policy's answer to an observation."""

    chunk: ActionChunk
    latencies_ms: dict[str, float]
    age_s: float
    """Time from the observation's arrival to the answer, seconds."""
    tokens: int
    tokens_kept: int


@dataclass(frozen=True)
class Commanded:
    """A command that was sent: a twist, joint velocities by name, or the gripper."""

    linear_m_s: np.ndarray | None = None
    angular_rad_s: np.ndarray | None = None
    joints: dict[str, float] | None = None
    gripper: float | None = None


@dataclass(frozen=True)
class Changed:
    """A change of the node's state."""

    text: str
    """'HOLDING: stale input: ...'."""


Entry = Observed | Answered | Commanded | Changed
"""Anything that the black box keeps."""

_SMALL_BYTES = 1000
"""About what names, texts and numbers of an entry take."""


def entry_bytes(entry: Entry) -> int:
    """Return about how much memory an entry takes, bytes: its arrays, and a bit."""
    size = _SMALL_BYTES
    if isinstance(entry, Observed):
        size += sum(image.nbytes for image in entry.observation.images.values())
        size += len(entry.observation.instruction)
    elif isinstance(entry, Answered):
        size += entry.chunk.values.nbytes
    return size
