"""Selects the tasks that a policy is evaluated on."""

from collections.abc import Sequence
from pathlib import Path
import sys

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.config import load_config
from sqap_vla_ros.models.preprocessing.words import check_instructions
from sqap_vla_ros.policy import PolicySpec
from sqap_vla_ros.simulation.tasks import DATASETS, TASKS


def choose_tasks(wanted: Sequence[str] | None, policy: str | Path) -> tuple[str, ...]:
    """
    Check the tasks that the user named, or choose those that the policy was trained on.

    Args:
        wanted: names of tasks; None or empty: the tasks that the policy was trained on.
        policy: policy directory.

    Raises:
        UserError: a task is unknown, or none is named and the policy was not trained in the
            simulation.
    """
    for task in wanted or ():
        if task not in TASKS:
            raise UserError(f'--tasks: {task!r} is unknown; known tasks: {", ".join(TASKS)}')
    if wanted:
        return tuple(wanted)
    dataset = load_config(Path(policy)).dataset
    if dataset not in DATASETS:
        raise UserError(
            f'policy {policy} was trained on {dataset!r}, not in the simulation; name '
            f'the tasks with --tasks; known tasks: {", ".join(TASKS)}'
        )
    return DATASETS[dataset]


def warn_of_words(spec: PolicySpec, tasks: Sequence[str]) -> None:
    """
    Check that a policy knows the words of the tasks' instructions.

    Words that it does not know are named on the standard error.

    Raises:
        UserError: it knows none of the words of an instruction.
    """
    texts = [text for task in tasks for text in TASKS[task].instructions]
    for line in check_instructions(texts, spec.words, spec.max_words):
        print(line, file=sys.stderr)
