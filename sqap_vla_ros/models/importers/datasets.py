"""What the columns of known datasets mean, from `config/datasets/*.yaml` or a user's own file."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqap_vla_ros.columns import Column, FRAMES, ROTATIONS, UNITS
from sqap_vla_ros.errors import shown, UserError
from sqap_vla_ros.input_files import exists
from sqap_vla_ros.profiles.document import Problem, read_document, Section
from sqap_vla_ros.resources import find_resource

FOLDER = 'config/datasets'
SHORTEST_S, LONGEST_S = 0.001, 60.0
"""Time between two actions."""
LARGEST_SCALE = 1e4
_QUANTITIES = ('displacement', 'velocity', 'position', 'offset', 'ratio')
_DIMENSIONLESS = 'ratio'


@dataclass(frozen=True)
class Dataset:
    """Meaning of the columns of a dataset."""

    name: str
    action: tuple[Column, ...]
    action_scale: tuple[float, ...]
    """Factor from each number of the dataset to the unit of its column."""
    state: tuple[Column, ...] = ()
    keys: tuple[str, ...] = ()
    """Under which checkpoints keep its statistics."""
    step_s: float | None = None
    """Time between two actions, seconds; None: not said."""
    families: tuple[str, ...] = ()
    """`model_type`s whose checkpoints hold it this way; empty: all."""
    crop_area: float | None = None
    """Share of the image's area, at its centre, that evaluation uses; None: not said."""
    rotated_180: bool = False
    """Whether training saw the images of the simulator turned by half a turn."""
    where: str = ''
    """The file, for messages."""


def find_dataset(name: str) -> Dataset:
    """
    Read the meaning of a dataset's columns.

    Args:
        name: path of a YAML file, or the name of a shipped dataset.

    Raises:
        UserError: there is no such file or dataset, or it is wrong; names file and line.
    """
    path = Path(name).expanduser()
    if path.suffix or exists(path):
        return read_dataset(path)
    for dataset in known_datasets():
        if name in (dataset.name, *dataset.keys):
            return dataset
    names = ', '.join(dataset.name for dataset in known_datasets())
    raise UserError(f'columns {shown(name)} is neither a file nor a known dataset: {names}')


def dataset_of_key(key: str, family: str) -> Dataset | None:
    """
    Look a dataset up by the key of its statistics.

    Args:
        key: of the statistics in a checkpoint.
        family: `model_type` of the checkpoint.

    Returns:
        The dataset; None if it is not a known one.
    """
    for dataset in known_datasets():
        if key in dataset.keys and (not dataset.families or family in dataset.families):
            return dataset
    return None


def dataset_for(columns: str, key: str, family: str) -> Dataset | None:
    """
    Find what describes the columns of a checkpoint.

    Args:
        columns: file or known dataset that the user named; empty: none.
        key: of the statistics in the checkpoint.
        family: `model_type` of the checkpoint.

    Returns:
        What the user named, else the known dataset of that key; None if there is neither.

    Raises:
        UserError: what the user named does not exist, or is wrong.
    """
    return find_dataset(columns) if columns else dataset_of_key(key, family)


@cache
def known_datasets() -> tuple[Dataset, ...]:
    """List the datasets that are shipped with the package."""
    return tuple(read_dataset(path) for path in sorted(find_resource(FOLDER).glob('*.yaml')))


def read_dataset(path: Path) -> Dataset:
    """
    Read a file of column meanings.

    Raises:
        UserError: names the file, the line and what is wrong.
    """
    problems: list[Problem] = []
    top = read_document(path, problems)
    dataset = None if top is None else _dataset(top, path)
    if dataset is None or problems:
        first = min(problems, key=lambda problem: problem.line)
        raise UserError(f'{path}:{first.line}: {first.message}')
    return dataset


def _dataset(top: Section, path: Path) -> Dataset:
    image = top.section('image')
    crop, rotated = None, False
    if image is not None:
        crop = image.number('crop_area', _DIMENSIONLESS, low=0.01, high=1.0)
        rotated = image.flag('rotated_180', False)
        image.close()
    top.text('summary', '')
    action = [_column(section) for section in top.sections('action', required=True)]
    state = [_column(section) for section in top.sections('state')]
    for section, scale in zip(top.sections('state'), (scale for _, scale in state)):
        if scale != 1:
            section.problem(f'{section.path}: scale is only for action columns')
    for part, columns in (('action', action), ('state', state)):
        names = [column.name for column, _ in columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            top.problem(f'{part}: {repeated[0]!r} is there more than once', top.line_of(part))
    dataset = Dataset(
        top.text('dataset', path.stem),
        tuple(column for column, _ in action),
        tuple(scale for _, scale in action),
        tuple(column for column, _ in state),
        top.names('keys'),
        top.number('step_s', 'time', low=SHORTEST_S, high=LONGEST_S),
        top.names('family'),
        crop,
        rotated,
        str(path),
    )
    top.close()
    return dataset


def _column(section: Section) -> tuple[Column, float]:
    before = len(section.problems)
    name = section.text('name') or '?'
    quantity = section.text('quantity', choices=_QUANTITIES) or ''
    unit = section.text('unit', choices=tuple(UNITS)) or '1'
    frame = section.text('frame', '', choices=('', *FRAMES))
    rotation = section.text('rotation', '', choices=('', *ROTATIONS))
    ends = [section.number(key, _DIMENSIONLESS) for key in ('opened', 'closed', 'low', 'high')]
    scale = section.number('scale', _DIMENSIONLESS, 1.0, low=-LARGEST_SCALE, high=LARGEST_SCALE)
    if scale == 0:
        section.problem(f'{section.path}: scale is 0, expected what a stored 1.0 is')
    section.close()
    cartesian = name.startswith(('linear.', 'angular.', 'end_effector.'))
    if cartesian and not frame:
        section.problem(f'{section.path}: {name} needs a frame: {", ".join(FRAMES)}')
    component = name.removeprefix('end_effector.')
    turns = name.startswith('angular.') or (component != name and component not in 'xyz')
    if turns and not rotation:
        section.problem(f'{section.path}: {name} needs a rotation: {", ".join(ROTATIONS)}')
    if len(section.problems) > before:  # what follows from them would only confuse
        return Column('?', '', '1'), scale
    try:
        return Column(name, quantity, unit, frame, rotation, *ends), scale
    except ValueError as error:
        section.problem(f'{section.path}: {error}')
        return Column('?', '', '1'), scale
