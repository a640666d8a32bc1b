"""Pictures of the visual tokens that a policy keeps, by criterion."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sqap_vla_ros.evaluation.report import TOKENS_TITLE
from sqap_vla_ros.evaluation.results import known_recipe
from sqap_vla_ros.evaluation.rollout import observe
from sqap_vla_ros.evaluation.runner import load_variant
from sqap_vla_ros.overlay import COLOURS, draw_overlay
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import expert_action, TASKS

SEED = 3
STEPS = 4
"""Observations before the one that is drawn, so that rules with a memory have one."""
STEP_S = 0.2
MAX_SCENES = 4


def draw_kept_tokens(
    policy: Path, variants: list[str], tasks: list[str], directory: Path
) -> dict[str, str]:
    """
    Write one picture, a row a variant that prunes and a column a scene.

    The expert moves the arm, so that all variants see the same. Variants whose recipe is not found
    are left out. Returns title to file name; empty where no variant prunes. Raises UserError.
    """
    pruning = {}
    for variant in variants:
        recipe = known_recipe(variant)
        if recipe is not None and recipe.pruning is not None:
            pruning[variant] = load_variant(str(policy), variant)
    scenes = {}
    for task in tasks:
        if task in TASKS and len(scenes) < MAX_SCENES:
            scenes.setdefault(TASKS[task].scene, task)
    if not pruning or not scenes:
        return {}
    arms = [SimulatedArm(task) for task in scenes.values()]
    figure = Figure(figsize=(2.6 * len(arms), 2.8 * len(pruning) + 0.5), layout='constrained')
    figure.get_layout_engine().set(h_pad=0.08)
    cells = figure.subplots(len(pruning), len(arms), squeeze=False)
    criteria = set()
    for column, arm in enumerate(arms):
        for axes, (variant, loaded) in zip(cells[:, column], pruning.items()):
            observation, selection = _look(arm, loaded)
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
            tokens = loaded.spec.visual_tokens
            kept = tokens if selection is None else len(selection.kept)
            axes.set_title(f'{variant}\n{kept} of {tokens}', fontsize=8)
        arm.close()
    figure.legend(
        handles=[
            Patch(color=[c / 255 for c in colour], label=criterion.name.lower())
            for criterion, colour in COLOURS.items()
            if criterion.value in criteria
        ],
        loc='outside lower center',
        ncols=3,
        fontsize=8,
    )
    figure.savefig(directory / 'tokens.png', dpi=110)
    return {TOKENS_TITLE: 'tokens.png'}


def _look(arm, policy):
    """Last observation of a few, and what was kept of it."""
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
    return observation, inference.selection
