"""Where the tensors of this package's models come from in a released checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
import re

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader

ATTENTION_HEADS = 16
"""Of the vision towers of every released Prismatic model and of pi0."""


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from."""

    released: str
    """Name in the released checkpoint."""
    convert: Callable[[torch.Tensor], torch.Tensor] | None = None
    """Applied to it; None: taken as it is."""

    def read(self, reader: CheckpointReader) -> torch.Tensor:
        """Our tensor; a view of the file where that is possible."""
        tensor = reader.tensor(self.released)
        return tensor if self.convert is None else self.convert(tensor)


def check_sources(
    reader: CheckpointReader, sources: dict[str, Source], unused: tuple[str, ...]
) -> None:
    """
    Compare the names that are read with those that the checkpoint has.

    unused: regular expressions of tensors that are known to play no part. Raises UserError that
    names the first tensor that is missing, or that nobody expects.
    """
    needed = {source.released for source in sources.values()}
    missing = sorted(needed - reader.names())
    if missing:
        raise UserError(
            f'{reader.where}: tensor {missing[0]} is missing ({len(missing)} missing '
            'in all); the checkpoint is incomplete or of another model'
        )
    surplus = sorted(
        name
        for name in reader.names() - needed
        if not any(re.search(pattern, name) for pattern in unused)
    )
    if surplus:
        raise UserError(
            f'{reader.where}: unexpected tensor {surplus[0]} ({len(surplus)} in all); '
            'merge adapters into the weights first, or check the model family'
        )
