"""What the columns of a policy mean, in lines for a person who can see nonsense."""

from collections.abc import Sequence

import numpy as np

from sqap_vla_ros.action_chunk import ActionSpec
from sqap_vla_ros.columns import Column
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.models.importers.datasets import Dataset

_SCALES = {'fraction': '0 .. 1', 'percent': '0 .. 100', 'percent_signed': '-100 .. 100'}
"""Unit to its ends, for people."""


def describe_meaning(
    state: Sequence[Column], action: ActionSpec, relative: Sequence[bool] = ()
) -> list[str]:
    """
    Describe the columns for a person who can see nonsense: what moves, and how far or how fast.

    Args:
        state: columns of the state, with their ranges.
        action: spec of the actions, whose columns have ranges.
        relative: which actions the model gives as offsets from the state; empty: none.

    Returns:
        One line for the time of an action, and one a column.
    """
    si = SiActions(action)
    low, high = (
        np.array([[getattr(column, end) or 0.0 for column in action.columns]])
        for end in ('low', 'high')
    )
    reach = np.stack([si.values(low)[0], si.values(high)[0]])
    lines = [f'time: one action lasts {action.step_s:.4g} s ({1 / action.step_s:.3g} Hz)']
    for index, (column, ours) in enumerate(zip(action.columns, si.spec.columns)):
        ends = sorted(reach[:, index])
        known = None not in (column.low, column.high)
        what = f'{column.name} {_span(column)}'
        if column.is_gripper:
            what = f'{column.name}: {column.opened:g} is open, {column.closed:g} closed'
        elif known and column.quantity in ('displacement', 'velocity'):
            most = max(abs(ends[0]), abs(ends[1]))
            what = f'{column.name} up to {most:{".2f" if most >= 0.1 else ".2g"}} {ours.unit}'
        offset = index < len(relative) and relative[index]
        lines.append(
            f'action: {what}{_frame(column)}'
            + (', given as an offset from the state' if offset else '')
        )
    for column in state:
        what = column.name
        if column.is_gripper:
            what += f': {column.opened:g} is open, {column.closed:g} closed'
        else:
            what += f' {_span(column)}'
        lines.append(f'state: {what}' + _frame(column))
    return lines


def describe_images(dataset: Dataset | None, crop_area: float | None) -> list[str]:
    """
    Say what training did to the images; see `describe_meaning`.

    Args:
        dataset: what describes the columns; None: names and units that the user gave.
        crop_area: share of the image that the policy uses; None: a family without it.

    Returns:
        Any number of lines.
    """
    lines = []
    if crop_area is not None and crop_area < 1:
        lines.append(f'image: {crop_area:g} of the area is used, at the centre')
    if dataset is not None and dataset.rotated_180:
        lines.append(
            "image: trained on the simulator's pictures turned by 180 degrees, which are upright "
            'and mirrored left to right; see doc/datasets.md'
        )
    return lines


def _span(column: Column) -> str:
    """Describe the range of a position in the dataset's unit, and in SI where that is another."""
    if column.low is None or column.high is None:
        return f'in {column.unit}, over a range that is not known'
    low, high = column.low, column.high
    if column.unit in _SCALES:
        scale = _SCALES[column.unit]
        return f'{low:.3g} .. {high:.3g} on a scale of {scale} over its calibrated range'
    text = f'{low:.3g} .. {high:.3g}' + ('' if column.unit == '1' else f' {column.unit}')
    unit = {'length': 'm', 'angle': 'rad'}.get(column.measures, column.unit)
    if column.unit != unit:
        text += f' = {low * column.si:.3g} .. {high * column.si:.3g} {unit}'
    return text


def _frame(column: Column) -> str:
    parts = [part for part in (column.frame, column.rotation) if part]
    return f' ({", ".join(parts)})' if parts else ''
