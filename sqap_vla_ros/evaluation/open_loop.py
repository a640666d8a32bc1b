"""Effect of compression on single inferences: actions, attention, layers. Nothing is executed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from sqap_vla_ros.compression.quantization.quant_linear import QuantLinear
from sqap_vla_ros.evaluation.rollout import observe
from sqap_vla_ros.evaluation.runner import Experiment, load_variant
from sqap_vla_ros.evaluation.tasks import warn_of_words
from sqap_vla_ros.models.pruned_policy import PrunedPolicy
from sqap_vla_ros.models.vla_model import VlaModel
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import expert_action

OBSERVE_EVERY_S = 0.2
TOP_SHARE = 0.1
"""Share of the visual tokens, those with the most attention, whose overlap is reported."""


def compare_open_loop(experiment: Experiment) -> dict[str, dict]:
    """
    Compare variants with full precision on the expert's frames.

    Args:
        experiment: policy, variants, tasks and seeds.

    Returns:
        Variant to:

        - 'frames': number of observations.
        - 'action_error': action to the mean absolute difference of the chunks from full
          precision, in the action's unit.
        - 'attention_overlap': of the tokens with the most attention in full precision
          (`TOP_SHARE` of all; mean over the layers behind the first, or from the pruning layer on
          where that is later), the share that also has the most attention in the variant. None
          where no layer is left.
        - 'layer_error': quantized layer to the norm of its output's error over the norm of the
          float layer's output, for the inputs of the float layer in the first episode. None where
          the recipe rotates the residual stream: the quantized layer then expects other inputs.

    Raises:
        UserError: the policy or a recipe cannot be loaded.
    """
    episodes = _expert_observations(experiment)
    full = cast(PrunedPolicy, load_variant(experiment.policy, 'full'))
    warn_of_words(full.spec, experiment.tasks)
    actions, attention = run_frames(full, episodes)
    results = {}
    for variant in tqdm(experiment.variants, desc='variants'):
        policy = cast(PrunedPolicy, load_variant(experiment.policy, variant))
        own_actions, own_attention = run_frames(policy, episodes)
        spec = policy.spec.action
        difference = np.abs(own_actions - actions).mean((0, 1))
        results[variant] = {
            'frames': len(actions),
            'action_error': {
                f'{name} ({unit})': float(value)
                for name, unit, value in zip(spec.names, spec.units, difference)
            },
            'attention_overlap': _overlap(attention, own_attention),
            'layer_error': _layer_errors(policy.model, full, episodes[0]),
        }
    return results


def table(results: dict[str, dict]) -> str:
    """Format as plain text: one row per variant."""
    columns = list(dict.fromkeys(name for r in results.values() for name in r['action_error']))
    rows = [['', *(f'error of {name}' for name in columns), 'attention overlap', 'worst layer']]
    for variant, result in results.items():
        layers, worst = result['layer_error'], ''
        if layers:
            name = max(layers, key=layers.get)
            worst = f'{layers[name]:.3f} {name}'
        rows.append(
            [
                variant,
                *(f'{result["action_error"][name]:.4f}' for name in columns),
                ''
                if result['attention_overlap'] is None
                else f'{100 * result["attention_overlap"]:.0f} %',
                worst,
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _expert_observations(experiment: Experiment) -> list[list[Observation]]:
    episodes: list[list[Observation]] = []
    for task in experiment.tasks:
        arm = SimulatedArm(task)
        for seed in range(experiment.first_seed, experiment.first_seed + experiment.episodes):
            arm.reset(seed=seed)
            episodes.append([])
            while arm.time_s < experiment.protocol.limit_s and not arm.succeeded:
                instructions = arm.task.instructions
                episodes[-1].append(observe(arm, instructions[seed % len(instructions)]))
                for _ in range(round(OBSERVE_EVERY_S / 0.05)):
                    action = expert_action(arm)
                    arm.command(action[:3], action[3])
                    arm.step(0.05)
        arm.close()
    return episodes


def run_frames(
    policy: PrunedPolicy, episodes: Sequence[Sequence[Observation]]
) -> tuple[np.ndarray, np.ndarray]:
    """
    Run a policy on recorded observations; all variants draw the same noise.

    Args:
        policy: policy to run; it is reset before each episode.
        episodes: observations of each episode.

    Returns:
        Chunks, float32 [frames, horizon, actions], and attention, float32 [frames, layers,
        tokens].
    """
    actions, attention = [], []
    for observations in episodes:
        policy.reset()
        for observation in observations:
            with _attention(policy) as rows:
                actions.append(policy.predict(observation).chunk.values)
            attention.append(np.array(rows).reshape(len(rows), policy.spec.visual_tokens))
    return np.stack(actions), np.stack(attention)


@contextmanager
def _attention(policy: PrunedPolicy) -> Iterator[list[np.ndarray]]:
    rows: list[np.ndarray] = []

    def listen(row: torch.Tensor, left: torch.Tensor | None) -> None:
        row = row.float().cpu()
        whole = torch.zeros(policy.spec.visual_tokens)
        rows.append((row if left is None else whole.scatter(0, left.cpu(), row)).numpy())

    policy.attention_listener = listen
    try:
        yield rows
    finally:
        policy.attention_listener = None


def _overlap(reference: np.ndarray, own: np.ndarray) -> float | None:
    layers = min(reference.shape[1], own.shape[1])  # the last ones: both saw the same
    if not layers:
        return None
    reference, own = reference[:, -layers:].mean(1), own[:, -layers:].mean(1)
    count = max(1, round(TOP_SHARE * reference.shape[1]))
    pairs = zip(np.argsort(-reference, 1)[:, :count], np.argsort(-own, 1)[:, :count])
    return float(np.mean([len(set(a) & set(b)) / count for a, b in pairs]))


def _layer_errors(
    model: nn.Module, full: PrunedPolicy, observations: Sequence[Observation]
) -> dict[str, float] | None:
    """Return each layer's relative error on the inputs of the float layer, by layer name."""
    if getattr(getattr(model, 'decoder', None), 'residual_signs', None) is not None:
        return None
    errors: dict[str, list[float]] = {}
    own_steps: dict[QuantLinear, Any] = {}
    float_model = cast(VlaModel, full.model)
    handles = []

    def listener(own: QuantLinear, found: list[float]) -> Callable[..., None]:
        def listen(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            found.append(float((own(inputs[0]) - output).norm() / output.norm()))

        return listen

    for name, layer in model.named_modules():
        if isinstance(layer, QuantLinear):
            errors[name] = []
            if layer.denoising is not None:  # follows the float model while that runs
                own_steps[layer], layer.denoising = layer.denoising, float_model.denoising_step()
            handles.append(
                float_model.get_submodule(name).register_forward_hook(
                    listener(layer, errors[name])
                )
            )
    try:
        run_frames(full, [observations])
    finally:
        for handle in handles:
            handle.remove()
        for layer, steps in own_steps.items():
            layer.denoising = steps
    return {name: float(np.mean(found)) for name, found in errors.items()} or None
