"""Where the tensors of this package's models come from in a released checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
import re

import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader

ATTENTION_HEADS = 16
"""Of the vision towers of every released Prismatic model and of pi0."""
_HINTS = (
    (r'\.lora_|^base_model\.', 'merge the LoRA adapter into the weights first'),
    (
        r'\.absmax$|\.quant_map$|\.quant_state\.|\.SCB$|\.weight_format$',
        'it is quantized by bitsandbytes; give the unquantized checkpoint',
    ),
    (
        r'\.qweight$|\.qzeros$|\.scales$|\.g_idx$|weight_scale|input_scale|\.weight_packed$',
        'it is quantized; give the unquantized checkpoint',
    ),
    (r'time_mlp_in|norm\.dense\.', 'it is of pi0.5, which this package does not run'),
    (
        r'^(un)?normalize_(inputs|targets|outputs)\.|paligemma\.language_model\.model\.',
        'it is of the layout of lerobot before 0.4, with the statistics among the weights; use '
        'a policy trained with lerobot 0.4 or later',
    ),
)
"""(pattern of a tensor's name, what it means that a checkpoint has one)."""


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
    Compare the tensors that are read with those that the checkpoint has.

    Args:
        reader: the checkpoint.
        sources: of our tensors.
        unused: regular expressions of tensors that are known to play no part.

    Raises:
        UserError: names the first tensor that is missing, that nobody expects, or that is not
            of floating point: a quantized one.
    """
    needed = {source.released for source in sources.values()}
    surplus = [
        name
        for name in sorted(reader.names() - needed)
        if not any(re.search(pattern, name) for pattern in unused)
    ]
    for name in sorted(needed & reader.names()):
        reader.check_type(name)
    missing = sorted(needed - reader.names())
    if missing and not any(map(meaning, surplus)):
        raise UserError(
            f'{reader.where}: tensor {missing[0]} is missing ({len(missing)} missing '
            'in all); the checkpoint is incomplete or of another model'
        )
    refuse_surplus(reader, surplus)


def refuse_surplus(reader: CheckpointReader, surplus: list[str]) -> None:
    """
    Refuse tensors that no part of our model takes.

    Args:
        reader: the checkpoint.
        surplus: released names.

    Raises:
        UserError: there is one; the message says what it means where its name tells.
    """
    if not surplus:
        return
    name = next(filter(meaning, surplus), surplus[0])
    raise UserError(
        f'{reader.where}: unexpected tensor {name} ({len(surplus)} in all); '
        + (meaning(name) or 'the model as released has none: check its family and its config.json')
    )


def meaning(name: str) -> str | None:
    """Say what it means that a checkpoint has a tensor of this name; None: nothing is known."""
    return next((hint for pattern, hint in _HINTS if re.search(pattern, name)), None)
