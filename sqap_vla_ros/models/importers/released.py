"""What an importer knows of a released checkpoint, and what the user may say about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader
from sqap_vla_ros.models.importers.sources import Source


@dataclass(frozen=True)
class ImportOptions:
    """
    Choices that a released checkpoint leaves open.

    Each family reads the fields that it has a use for and refuses the others.
    """

    dataset: str | None = None
    """Key of the dataset statistics; None: the only one."""
    tokenizer: Path | None = None
    """Folder with tokenizer.json; None: the checkpoint's own."""
    step_s: float | None = None
    """Time that one action lasts, seconds; None: known from the name of the dataset."""
    dtype: str | None = None
    """
    Type of the weights to write, except for CogACT's action head; None: as they are stored, and
    where a part of the model has several types, in the widest of them.
    """
    crop_area: float | None = None
    """OpenVLA only: share of the image's area, at its centre, that is used; None: what the known
    dataset says, else all of it."""
    cameras: tuple[str, ...] = ()
    """Names for the cameras, in the checkpoint's order; empty: the family's own."""
    columns: str = ''
    """What the columns mean: a YAML file or the name of a known dataset; empty: see below."""
    state_names: tuple[str, ...] = ()
    """Names of the state columns; empty: those of `columns` or of the known dataset."""
    state_units: tuple[str, ...] = ()
    """Units of the state columns; a gripper of unit '1' is 0 (open) .. 1 (closed)."""
    action_names: tuple[str, ...] = ()
    """Names of the action columns; empty: those of `columns`, of the known dataset or family."""
    action_units: tuple[str, ...] = ()
    """Units of the action columns: 'm' and 'rad' of linear and angular columns are displacements
    per step (a rotation vector), 'm/s' and 'rad/s' velocities, all in the base frame."""
    relative_actions: tuple[str, ...] | None = None
    """pi0 of openpi only: action columns that are offsets from the state; None: not said."""
    letterbox_bars: float | None = None
    """pi0 of lerobot only: value of the bars beside an image; None: -1, -3 before 0.5.0."""
    attention_heads: int | None = None
    """pi0 only: heads of language model and expert, which no file has; None: 8, as published."""


def refuse_unused(options: ImportOptions, title: str, unused: tuple[str, ...]) -> None:
    """
    Refuse options that a family has no use for: the user expects them to do something.

    Args:
        options: what the user said.
        title: of the family, for messages.
        unused: names of fields.

    Raises:
        UserError: names the first option that was given.
    """
    for name in unused:
        if getattr(options, name) not in (None, ()):
            raise UserError(
                f'--{name.replace("_", "-")}: means nothing for a checkpoint of {title}; leave '
                'it out'
            )


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer must agree on with a model that was trained with another copy of it."""

    title: str
    """Whose tokenizer it is, for messages."""
    ids: dict[str, int]
    """Ids of a few of its tokens."""
    size: int
    """Rows of the model's embedding: no id may be as large."""
    spells: tuple[str, str] | None = None
    """A text, and its tokens joined without anything between them; None: not checked."""


@dataclass(frozen=True)
class Released:
    """A released checkpoint, opened: nothing of its weights is read yet."""

    family: str
    """Title of the family, for messages and the model card."""
    config: Any
    """The configuration in this package's terms."""
    statistics: dict[str, Any]
    """`{dataset: {action: ..., state: ...}}`, of the chosen dataset."""
    reader: CheckpointReader
    sources: dict[str, Source]
    """Where each tensor of our model comes from."""
    tokenizer: Path
    """Folder that has tokenizer.json."""
    vocabulary: Vocabulary | None = None
    """What tokenizer.json is checked for; None: nothing."""
    own_types: tuple[str, ...] = ('action_head.',)
    """
    Beginnings of the names of our tensors that compute in a type of their own, which may be wider
    than that of all others.
    """


def choose_dataset(statistics: dict[str, Any], wanted: str | None, where: Path | str) -> str:
    """
    Choose the dataset whose statistics are used.

    Args:
        statistics: `{dataset: {...}}` of the checkpoint.
        wanted: key that the user asked for; None: the only one.
        where: the file, for messages.

    Raises:
        UserError: there is none, or none of that name, or several; the message lists the keys.
    """
    known = sorted(key for key, value in statistics.items() if isinstance(value, dict))
    if not known:
        raise UserError(
            f'{where}: has no dataset statistics (norm_stats); they are needed to '
            'turn model outputs into actions'
        )
    if wanted is None and len(known) > 1:
        raise UserError(
            f'{where}: statistics of {len(known)} datasets; choose one with '
            f'--dataset: {", ".join(known)}'
        )
    if wanted is not None and wanted not in known:
        raise UserError(f'{where}: no statistics of dataset {wanted!r}; it has {", ".join(known)}')
    return wanted or known[0]
