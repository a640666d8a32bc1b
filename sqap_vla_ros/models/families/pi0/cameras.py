"""Which cameras a pi0 checkpoint was trained with, and what they are called here."""

from collections.abc import Mapping
from pathlib import Path
import re
from typing import Any

from sqap_vla_ros.errors import UserError

EMPTY_CAMERA = r'observation\.images\.empty_camera_\d+'
"""lerobot adds these to the features; no robot has them, and the model masks them."""


def stored_cameras(
    path: Path, data: Mapping[str, Any], sources: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """
    Name the cameras of lerobot's `input_features`, in the order of training.

    Args:
        path: of `config.json`, for messages.
        data: its content.
        sources: feature to the name of the observation that it is renamed from.

    Returns:
        The names that the robot has them under: 'observation.images.left.rgb' is 'left_rgb'.

    Raises:
        UserError: two cameras would have one name; the message has both features.
    """
    features = data.get('input_features') or {}
    if not isinstance(features, dict):
        raise UserError(f'{path}: input_features is {features!r:.60}, expected an object')
    found: dict[str, str] = {}
    for feature, entry in features.items():
        if not isinstance(entry, dict) or entry.get('type') != 'VISUAL':
            continue
        renamed = sources.get(feature)
        if renamed == () or (renamed is None and re.fullmatch(EMPTY_CAMERA, feature)):
            continue  # no observation has it: masked
        shape = entry.get('shape')
        if isinstance(shape, list) and 3 not in (shape[:1] + shape[-1:]):
            raise UserError(
                f'{path}: camera {feature} has shape {shape!r:.60}, expected 3 channels: a depth '
                'image is no picture'
            )
        name = _short(renamed[0] if renamed else feature)
        if name in found:
            raise UserError(
                f'{path}: cameras {found[name]} and {feature} would both be called {name!r}; give '
                'all cameras names of their own with --cameras'
            )
        found[name] = feature
    return tuple(found)


def choose_cameras(
    path: Path, stored: tuple[str, ...], wanted: tuple[str, ...]
) -> tuple[str, ...]:
    """
    Apply `--cameras`.

    Names of the checkpoint's own choose these cameras. Other names are new ones, given in the
    order of training. Cameras beyond are left out, as if masked.

    Args:
        path: of `config.json`, for messages.
        stored: the checkpoint's own names.
        wanted: what the user gave; empty: all of the checkpoint's.

    Returns:
        The names, in the order of training.

    Raises:
        UserError: there are none, too many, one twice, or old and new names in another order.
    """
    if not (stored or wanted):
        raise UserError(f'{path}: input_features has no camera; name them with --cameras')
    if not wanted:
        return stored
    if len(set(wanted)) != len(wanted):
        raise UserError(f'--cameras names {next(n for n in wanted if wanted.count(n) > 1)} twice')
    if stored and len(wanted) > len(stored):
        raise UserError(
            f'{path}: has {len(stored)} cameras, but --cameras names {len(wanted)}: the '
            f'checkpoint has {", ".join(stored)}'
        )
    if set(wanted) <= set(stored):
        return tuple(name for name in stored if name in wanted)
    for place, name in enumerate(wanted):
        if name in stored and stored.index(name) != place:
            raise UserError(
                f"--cameras: {name} is number {stored.index(name) + 1} of the checkpoint's "
                f'cameras ({", ".join(stored)}), but number {place + 1} of the given ones; give '
                'the names in the order of the checkpoint'
            )
    return wanted


def _short(feature: str) -> str:
    """Make a name that topics and files can have."""
    name = feature.removeprefix('observation.').removeprefix('images.')
    return re.sub(r'\W', '_', name)
