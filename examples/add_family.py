"""
Add a model family from outside the package: build, save, compress, load and run one policy of it.

    python examples/add_family.py --output out/add_family

The model is a toy with random weights: the mean colours of a grid of patches and the state go
through two linear layers, which give a chunk of velocities. What makes it a family is `FAMILY` at
the end: everything else in the package finds the model through it.

`register_family` reaches this process only. For the node and the command line, declare the family
in the `pyproject.toml` of your package instead:

    [project.entry-points."sqap_vla_ros.families"]
    toy = "your_package.your_module:FAMILY"
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
import torch
from torch import nn

from sqap_vla_ros import (
    ActionChunk,
    ActionSpec,
    compress,
    Family,
    Inference,
    load_policy,
    Observation,
    Policy,
    PolicySpec,
    QuantizationRecipe,
    Recipe,
    register_family,
    RuntimeOptions,
    UserError,
)
from sqap_vla_ros.models.config import save_config
from sqap_vla_ros.models.vla_model import VlaModel


@dataclass(frozen=True)
class ToyConfig:
    """What `config.json` of a policy directory holds: enough to build the module tree."""

    grid: int = 4
    """Rows and columns of image patches."""
    width: int = 64
    horizon: int = 8
    step_s: float = 0.05
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = ''
    action_scale: tuple[float, ...] = ()
    action_offset: tuple[float, ...] = ()
    model_type: str = 'toy'


class ToyModel(VlaModel):
    """The module tree. `target_roots` tells compression which linear layers belong to a target."""

    target_roots = {'decoder': (), 'vision': (), 'action_head': ('head',)}  # noqa: RUF012

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        inputs = 3 * config.grid**2 + 4
        # `head.0` and `head.2` are the linear layers that a recipe quantizes.
        self.head = nn.Sequential(
            nn.Linear(inputs, config.width), nn.GELU(), nn.Linear(config.width, config.horizon * 4)
        )

    def set_query_key_quantizer(self, quantizer: object) -> None:
        """Take the quantizer of queries and keys; this model has no attention."""

    def forward(self, image: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """
        Run the model.

        Args:
            image: float32 [3, height, width], 0 .. 1.
            state: float32 [4].

        Returns:
            float32 [horizon, 4].

        """
        patches = nn.functional.adaptive_avg_pool2d(image, self.config.grid)
        inputs = torch.cat([patches.flatten(), state])
        return self.head(inputs[None]).reshape(self.config.horizon, 4).tanh()


class ToyPolicy(Policy):
    """The model behind the interface that the node, the evaluation and the tools use."""

    def __init__(
        self, model: ToyModel, description: dict[str, Any], runtime: RuntimeOptions
    ) -> None:
        self._model = model.eval()
        self._description = description
        self._device = runtime.device
        config = model.config
        self.spec = PolicySpec(
            cameras=config.cameras,
            state_names=('end_effector.x', 'end_effector.y', 'end_effector.z', 'gripper'),
            state_units=('m', 'm', 'm', '1'),
            action=ActionSpec(
                names=('linear.x', 'linear.y', 'linear.z', 'gripper'),
                units=('m/s', 'm/s', 'm/s', '1'),
                step_s=config.step_s,
                horizon=config.horizon,
            ),
            visual_tokens=config.grid**2,
            token_grid=(config.grid, config.grid),
        )

    @torch.inference_mode()
    def predict(self, observation: Observation) -> Inference:
        """Run the model once."""
        (camera,) = self.spec.cameras
        if camera not in observation.images or observation.state is None:
            raise UserError(f'observation has no image {camera!r} or no state')
        image = torch.from_numpy(observation.images[camera]).to(self._device)
        state = torch.from_numpy(observation.state).to(self._device)
        out = self._model(image.permute(2, 0, 1).float() / 255, state).cpu().numpy()
        low, high = self.action_bounds()
        values = low + (out + 1) / 2 * (high - low)
        chunk = ActionChunk(values, self.spec.action, observation.stamp_ns)
        return Inference(chunk, latencies_ms={}, tokens=self.spec.visual_tokens)

    def reset(self) -> None:
        """Forget earlier observations; this policy remembers none."""

    def describe(self) -> dict[str, Any]:
        """Name what runs; `load_policy` has filled in recipe, bits, bytes and hash."""
        return self._description

    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Range of the actions, float32 [4]."""
        low, high = [-0.2, -0.2, -0.2, 0.0], [0.2, 0.2, 0.2, 1.0]
        return np.array(low, np.float32), np.array(high, np.float32)

    def typical_state(self) -> np.ndarray:
        """State for warming up, float32 [4]."""
        return np.array([0.0, 0.6, 0.2, 0.0], np.float32)


def make_toy_policy(
    model: ToyModel, directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> Policy:
    """Put a loaded model behind `Policy`; a real one reads tokenizer and statistics here."""
    return ToyPolicy(model, description, runtime)


FAMILY = Family(
    model_type='toy',
    title='Toy',
    config=ToyConfig,
    model=ToyModel,
    make_policy=make_toy_policy,
)


def main() -> None:
    """Register the family, then use it as the shipped ones are used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--output', type=Path, default=Path('out/add_family'))
    output = parser.parse_args().output

    register_family(FAMILY)

    # 1. A policy directory: config.json and model.safetensors.
    directory = output / 'float'
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = ToyModel(ToyConfig())
    save_config(model.config, directory)
    save_file(model.state_dict(), directory / 'model.safetensors')

    # 2. The same function compresses it as any other.
    recipe = Recipe(
        'toy_w4a8',
        QuantizationRecipe(weight_bits=4, activation_bits=8, targets=('action_head',)),
    )
    report = compress(directory, output / 'compressed', recipe)
    print(f'{report.layers} layers: {report.float_bytes} B -> {report.packed_bytes} B')

    # 3. Both are loaded by their directory; `model_type` in config.json names the family.
    observation = Observation(
        images={'camera': np.full((48, 64, 3), 128, np.uint8)},
        instruction='move',
        state=np.array([0.1, 0.5, 0.2, 0.0], np.float32),
    )
    chunks = {}
    for name in ('float', 'compressed'):
        policy = load_policy(output / name)
        chunks[name] = policy.predict(observation).chunk
        print(f'{name}: recipe {policy.describe()["recipe"]}, {policy.describe()["backend"]}')
    for name, unit, exact, approximate in zip(
        policy.spec.action.names,
        policy.spec.action.units,
        chunks['float'].values[0],
        chunks['compressed'].values[0],
    ):
        print(f'{name} ({unit}): {exact:+.3f} in float, {approximate:+.3f} compressed')


if __name__ == '__main__':
    main()
