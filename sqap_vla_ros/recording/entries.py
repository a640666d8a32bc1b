"""Entries of the black box: plain values, converted to messages only when written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.recording.images import checksum_of, keep_rgb, KeptImage


@dataclass(frozen=True)
class Observed:
    """
    An observation that was given to the policy.

    It may be made of an observation with images; they are then found in `images`: as given there,
    otherwise as RGB.
    """

    observation: Observation
    """Without images, see `decoded`."""
    generation: int
    since_reset: int
    """Inferences since the policy was reset, without this one: 0 right after a reset."""
    budget: float
    """See `Policy.set_budget`."""
    images: Mapping[str, KeptImage] = field(default_factory=dict)
    """Camera name to its image."""

    def __post_init__(self) -> None:
        seen = self.observation.images
        if seen:
            kept = {
                name: replace(self.images[name], checksum=checksum_of(rgb))
                if name in self.images
                else keep_rgb(rgb)
                for name, rgb in seen.items()
            }
            object.__setattr__(self, 'images', kept)
            object.__setattr__(self, 'observation', replace(self.observation, images={}))

    def decoded(self) -> tuple[Observation, bool]:
        """
        Decode the images.

        Returns:
            The observation with its images, and whether they are those that the policy saw.

        Raises:
            ImageError: an image cannot be decoded.
        """
        images = {name: image.rgb() for name, image in self.images.items()}
        same = all(
            image.exact and image.checksum in (None, checksum_of(images[name]))
            for name, image in self.images.items()
        )
        return replace(self.observation, images=images), same


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
        size += sum(image.nbytes for image in entry.images.values())
        size += len(entry.observation.instruction)
    elif isinstance(entry, Answered):
        size += entry.chunk.values.nbytes
    return size
