"""What an importer knows of a released checkpoint, and what the user may say about it."""

from dataclasses import dataclass
from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.importers.checkpoint_reader import CheckpointReader
from sqap_vla_ros.models.importers.prismatic_keys import Source


@dataclass(frozen=True)
class ImportOptions:
    """Choices that a released checkpoint does not make."""

    dataset: str | None = None
    """Key of the statistics; None: the only one."""
    tokenizer: Path | None = None
    """Folder with tokenizer.json; None: the checkpoint's own."""
    step_s: float | None = None
    """Robot time of one action; None: known from the dataset's name."""
    dtype: str | None = None
    """Type of the weights to write, but for the action head; None: as they are stored."""
    crop_area: float = 1.0
    """OpenVLA: share of the image that is used, 0.9 for LIBERO fine-tunes."""
    cameras: tuple[str, ...] = ()
    """Names to give to the cameras, in the checkpoint's order; empty: its own."""
    state_names: tuple[str, ...] = ()
    state_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Released:
    """A released checkpoint, opened: nothing of its weights is read yet."""

    family: str
    """'OpenVLA', 'CogACT' or 'pi0', for people."""
    config: object
    """The configuration in this package's terms."""
    statistics: dict
    """`{dataset: {action: ..., state: ...}}`, of the chosen dataset."""
    reader: CheckpointReader
    sources: dict[str, Source]
    """Where each tensor of our model comes from."""
    tokenizer: Path
    """Folder that has tokenizer.json."""


def choose_dataset(statistics: dict, wanted: str | None, where: Path | str) -> str:
    """Key of the statistics to use. Raises UserError that lists the keys."""
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
