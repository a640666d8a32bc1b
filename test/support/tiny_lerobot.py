"""Cases of lerobot's pi0 folders: how they were trained, and inputs; see the generator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
import shutil
import zlib

import numpy as np
from safetensors.torch import save_file
import torch

from sqap_vla_ros.models.importers.released import ImportOptions

from support import tiny_pi0 as tiny

FIXTURES = Path(__file__).parents[1] / 'fixtures' / 'lerobot'
COLUMNS, HORIZON = 6, 8
NAMES = (
    'shoulder_pan.pos',
    'shoulder_lift.pos',
    'elbow_flex.pos',
    'wrist_flex.pos',
    'wrist_roll.pos',
    'gripper.pos',
)
JOINTS = tuple(name.removesuffix('.pos') for name in NAMES)
FRONT, WRIST = 'observation.images.front', 'observation.images.wrist'
SIZES = ((48, 64), (90, 41))
TEXTS = 'pick up_red cup', ' Pick red\ncup  cup '
"""lerobot does not clean a text, so underscores, spaces and newlines stay."""


@dataclass(frozen=True)
class Case:
    """One trained policy."""

    name: str
    mode: str = 'MEAN_STD'
    features: tuple[str, ...] = (FRONT, WRIST)
    cameras: tuple[str, ...] = ('front', 'wrist')
    """What this package calls them."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    relative: bool = False
    """All but the gripper are offsets from the state."""
    degrees: bool = False
    """States and actions are tens of degrees."""
    constant: bool = False
    """One column of the state and one of the actions never moved in the data."""
    empty_cameras: int = 0
    text_length: int = 48
    bfloat16: bool = False
    """The model is in bfloat16, but for what lerobot keeps in float32."""

    def options(self) -> ImportOptions:
        """Return what an import needs to be told: names, units and time."""
        units = ('deg' if self.degrees else 'rad',) * COLUMNS
        return ImportOptions(
            step_s=0.1,
            state_names=tuple(f'joint.{name}' for name in JOINTS),
            state_units=units,
            action_names=tuple(f'joint_position.{name}' for name in JOINTS),
            action_units=units,
        )

    def renamed_from(self, feature: str) -> str:
        """Return the name that an observation has for a feature."""
        return next((old for old, new in self.renamed.items() if new == feature), feature)


CASES = (
    Case('mean_std'),
    Case('min_max', 'MIN_MAX'),
    Case('quantiles', 'QUANTILES'),
    Case('quantile10', 'QUANTILE10'),
    Case('identity', 'IDENTITY'),
    Case('relative', relative=True),
    Case('relative_degrees', 'QUANTILES', relative=True, degrees=True),
    Case('degrees', degrees=True),
    Case(
        'renamed',
        cameras=('cam_high', 'wrist'),
        renamed={'observation.images.cam_high': FRONT},
    ),
    Case(
        'twins',
        features=('observation.images.left.rgb', 'observation.images.right.rgb'),
        cameras=('left_rgb', 'right_rgb'),
    ),
    Case('empty_camera', empty_cameras=1),
    Case('short_text', text_length=5),
    Case('bfloat16', bfloat16=True),
    Case('constant', constant=True),
    Case('constant_range', 'MIN_MAX', constant=True),
    Case('constant_quantiles', 'QUANTILES', constant=True),
)


@dataclass(frozen=True)
class Given:
    """One observation, and the noise that the flow starts from."""

    images: dict[str, np.ndarray]
    """By the names that an observation of lerobot has, uint8 [H, W, 3]."""
    text: str
    state: np.ndarray
    noise: np.ndarray


def statistics(case: Case) -> dict[str, dict[str, np.ndarray]]:
    """Return float32 statistics of state and action."""
    random = np.random.RandomState(5)
    scale = 60.0 if case.degrees else 1.0
    found = {}
    for feature, still in (('observation.state', 1), ('action', 2)):
        mean, std = random.randn(COLUMNS) * scale, random.uniform(0.2, 2, COLUMNS) * scale
        if case.constant:
            std[still] = 0
        reaches = {'min': -3, 'max': 3.5, 'q01': -2, 'q99': 2.2, 'q10': -1, 'q90': 1.2}
        values = {'mean': mean, 'std': std} | {k: mean + r * std for k, r in reaches.items()}
        found[feature] = {name: value.astype(np.float32) for name, value in values.items()}
    return found


def inputs(case: Case) -> list[Given]:
    """Return two observations: a wide and a high image, and two texts."""
    stats = statistics(case)['observation.state']
    found = []
    for index, (size, text) in enumerate(zip(SIZES, TEXTS)):
        random = np.random.RandomState(zlib.crc32(case.name.encode()) % 1000 + index)
        images = {
            case.renamed_from(feature): random.randint(0, 256, (*size, 3)).astype(np.uint8)
            for feature in case.features
        }
        state = stats['mean'] + random.randn(COLUMNS) * stats['std']
        if case.mode == 'IDENTITY':
            state = random.randn(COLUMNS)
        noise = random.randn(1, HORIZON, tiny.COLUMNS)
        found.append(Given(images, text, state.astype(np.float32), noise.astype(np.float32)))
    return found


def write_folder(case: Case, folder: Path):
    """Write a folder that lerobot saved: its own files, and the tiny weights under its names."""
    shutil.copytree(FIXTURES / case.name, folder)
    write_weights(folder, mixed=case.bfloat16)


def write_weights(
    folder: Path, changed: Mapping[str, torch.Tensor] | None = None, mixed: bool = False
):
    """
    Write the tokenizer, and the tiny weights under lerobot's names.

    Args:
        folder: created if it is missing.
        changed: tensors that replace those of `tiny_pi0`, by the names there.
        bfloat16: as lerobot saves a model in bfloat16: some of the tensors are in it.
        mixed: store in bfloat16 what lerobot stores so with `dtype='bfloat16'`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = tiny.tensors() | dict(changed or {})
    head = stored[f'{tiny.PREFIX}paligemma.lm_head.weight']
    stored[f'{tiny.PREFIX}paligemma.model.language_model.embed_tokens.weight'] = head.clone()
    weights = {}
    for name, shape in json.loads((FIXTURES / 'weights.json').read_text()).items():
        bare = name.removeprefix('model.')
        found = stored.get(bare)
        if found is None:
            found = stored.get(bare.replace('vision_tower.', 'vision_tower.vision_model.'))
        weights[name] = torch.zeros(shape) if found is None else found
        assert list(weights[name].shape) == shape, name
    for name in json.loads((FIXTURES / 'bfloat16.json').read_text()) if mixed else ():
        weights[name] = weights[name].to(torch.bfloat16)
    save_file(weights, folder / 'model.safetensors')
    tiny.write_tokenizer(folder)
