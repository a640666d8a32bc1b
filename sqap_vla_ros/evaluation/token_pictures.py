"""Pictures of the visual tokens that a policy keeps, coloured by criterion."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from sqap_vla_ros.evaluation.markdown_report import TOKENS_TITLE
from sqap_vla_ros.evaluation.result_files import known_recipe
from sqap_vla_ros.evaluation.rollout import observe
from sqap_vla_ros.evaluation.runner import load_variant
from sqap_vla_ros.overlay import COLOURS, draw_overlay
from sqap_vla_ros.policy import Inference, Observation, Policy
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import expert_action, TASKS

SEED = 3
STEPS = 4
"""Observations before the one that is drawn, for selection rules that remember earlier ones."""
STEP_S = 0.2
MAX_SCENES = 4


def draw_kept_tokens(
    policy: Path, variants: list[str], tasks: list[str], directory: Path
) -> dict[str, str]:
    """
    Write one picture: a row for each variant that prunes, a column for each scene.

    The expert moves the arm, so that all variants see the same images. Variants whose recipe is
    not found are left out.

    Args:
        policy: float policy directory.
        variants: recipe names or files.
        tasks: tasks whose scenes are drawn, at most `MAX_SCENES`.
        directory: where 'tokens.png' is written.

    Returns:
        Title to file name; empty when no variant prunes.

    Raises:
        UserError: the policy cannot be loaded.
    """
    pruning = {}
    for variant in variants:
        recipe = known_recipe(variant)
        if recipe is not None and recipe.pruning is not None:
            pruning[variant] = load_variant(str(policy), variant)
    scenes: dict[str, str] = {}
    for task in tasks:
        if task in TASKS and len(scenes) < MAX_SCENES:
            scenes.setdefault(TASKS[task].scene, task)
    if not pruning or not scenes:
        return {}
    arms = [SimulatedArm(task) for task in scenes.values()]
    size = 2.6 * len(arms), 2.8 * len(pruning) + 0.5
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.08))
    cells = figure.subplots(len(pruning), len(arms), squeeze=False)
    criteria: set[int] = set()
    for column, arm in enumerate(arms):
        for axes, (variant, loaded) in zip(cells[:, column], pruning.items()):
            observation, inference = _look(arm, loaded)
            selection = inference.selection
            picture = draw_overlay(
                observation.images['camera'],
                selection,
                observation.cameras['camera'],
                observation.end_effector_m,
            )
            if selection is not None:
                criteria |= set(selection.criterion.tolist())
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            kept = inference.tokens_kept
            axes.set_title(f'{variant}\n{kept} of {inference.tokens}', fontsize=8)
        arm.close()
    figure.legend(
        handles=[
            Patch(
                color=(colour[0] / 255, colour[1] / 255, colour[2] / 255),
                label=criterion.name.lower(),
            )
            for criterion, colour in COLOURS.items()
            if criterion.value in criteria
        ],
        loc='outside lower center',
        ncols=3,
        fontsize=8,
    )
    figure.savefig(directory / 'tokens.png', dpi=110)
    return {TOKENS_TITLE: 'tokens.png'}


def _look(arm: SimulatedArm, policy: Policy) -> tuple[Observation, Inference]:
    """Return the last of a few observations, and its inference."""
    arm.reset(seed=SEED)
    policy.reset()
    for step in range(STEPS + 1):
        observation = observe(arm, arm.task.instructions[0])
        inference = policy.predict(observation)
        if step < STEPS:
            for _ in range(round(STEP_S / 0.05)):
                action = expert_action(arm)
                arm.command(action[:3], action[3])
                arm.step(0.05)
    return observation, inference
