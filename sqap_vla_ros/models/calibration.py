"""Calibration samples of a policy directory: observations that compression may run the model on."""
from pathlib import Path
from typing import Callable
import zipfile

import numpy as np
from torch import nn

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.cogact_policy import CogActPolicy
from sqap_vla_ros.models.policy import Observation
from sqap_vla_ros.models.preprocessing import Statistics
from sqap_vla_ros.models.text import WordTokenizer

CALIBRATION_FILE = 'calibration.npz'


def save_samples(path: Path, observations: list[Observation]):
    """Write observations of one size: images of one camera, instructions and states."""
    states = [o.state for o in observations]
    np.savez_compressed(
        path, image=np.stack([next(iter(o.images.values())) for o in observations]),
        instruction=np.array([o.instruction for o in observations]),
        state=np.stack(states) if states[0] is not None else np.empty((len(states), 0)))


def load_samples(path: Path, camera: str) -> list[Observation]:
    """
    Read observations from an .npz file.

    It holds `image` uint8 [n, H, W, 3], `instruction` text [n] and `state` float [n, states] in
    the policy's units. Raises UserError that names the file and the field.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            image, instruction, state = (data[key] for key in ('image', 'instruction', 'state'))
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; expected calibration samples') from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f'{path}: not calibration samples: {error}') from None
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[-1] != 3 or not len(image):
        raise UserError(f'{path}: image is {image.dtype} {image.shape}, '
                        'expected uint8 [n, height, width, 3]')
    if len(instruction) != len(image) or len(state) != len(image) or state.ndim != 2:
        raise UserError(f'{path}: {len(image)} images, but {len(instruction)} instructions and '
                        f'states {state.shape}')
    return [Observation({camera: i}, str(text), s.astype(np.float32) if len(s) else None)
            for i, text, s in zip(image, instruction, state)]


def calibrator(samples: list[Observation], tokenizer: WordTokenizer,
               statistics: Statistics) -> Callable[[nn.Module], None]:
    """Run a model on samples, as `compress` wants it: the whole policy, no token pruned."""
    def run(model):
        policy = CogActPolicy(model, tokenizer, statistics)
        for sample in samples:
            policy.predict(sample)

    return run
