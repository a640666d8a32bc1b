"""Calibration samples of a policy: observations on which compression runs the model."""

from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_npz
from sqap_vla_ros.policy import Observation

CALIBRATION_FILE = 'calibration.npz'
_IMAGE = 'image.'


def save_samples(path: Path, observations: list[Observation]) -> None:
    """Write observations for `load_samples`; all images of a camera must have the same size."""
    states: list[Any] = [o.state for o in observations]
    images = {
        _IMAGE + name: np.stack([o.images[name] for o in observations])
        for name in observations[0].images
    }
    np.savez_compressed(
        path,
        instruction=np.array([o.instruction for o in observations]),
        state=np.empty((len(states), 0)) if states[0] is None else np.stack(states),
        **images,  # type: ignore[arg-type]
    )


def load_samples(path: Path) -> list[Observation]:
    """
    Read observations from an .npz file.

    It holds `image.NAME` uint8 [n, H, W, 3] for each camera, `instruction` text [n] and `state`
    float [n, states] in the policy's units.

    Raises:
        UserError: names the file and the field that is missing or wrong.
    """
    data = read_npz(path, 'calibration samples')
    images = {key[len(_IMAGE) :]: data[key] for key in data if key.startswith(_IMAGE)}
    for key in ('instruction', 'state'):
        if key not in data:
            raise UserError(f'{path}: not calibration samples: {key} is missing')
    instruction, state = data['instruction'], data['state']
    if (
        not images
        or instruction.ndim != 1
        or instruction.dtype.kind != 'U'
        or not len(instruction)
        or state.ndim != 2
        or state.dtype.kind != 'f'
        or len(state) != len(instruction)
    ):
        raise UserError(
            f'{path}: {len(images)} cameras, instructions {instruction.dtype} '
            f'{instruction.shape}, states {state.dtype} '
            f'{state.shape}; expected at least one camera and sample, text [n] and '
            'numbers [n, states]'
        )
    for name, image in images.items():
        if (
            image.dtype != np.uint8
            or image.ndim != 4
            or image.shape[-1] != 3
            or len(image) != len(instruction)
        ):
            raise UserError(
                f'{path}: {_IMAGE}{name} is {image.dtype} {image.shape}, expected '
                f'uint8 [{len(instruction)}, height, width, 3]'
            )
    return [
        Observation(
            {name: image[i] for name, image in images.items()},
            str(instruction[i]),
            state[i].astype(np.float32) if state.shape[1] else None,
        )
        for i in range(len(instruction))
    ]
