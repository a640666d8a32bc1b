"""Runs a policy on recorded observations, and compares its answers with the recorded ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.control.chunk_executor import ChunkExecutor
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.recording.entries import Answered, Commanded, Entry, Observed

MOST_REPEATS = 1000


@dataclass(frozen=True)
class Replay:
    """How a policy's answers to recorded observations differ from the recorded answers."""

    inferences: int
    """Recorded observations that were answered then and now."""
    approximate: int
    """Observations whose images are not those that the policy saw: JPEGs of them, or decoded
    otherwise here. Above 0, the differences are not those of the policy alone."""
    names: tuple[str, ...]
    units: tuple[str, ...]
    chunk_difference: np.ndarray
    """float64 [actions]: largest absolute difference of any row, in `units`."""
    commands: int
    """Recorded commands at whose times both have a row."""
    command_difference: np.ndarray | None
    """float64 [actions]: the same for the rows due at the commands, before the limiter."""
    answers: list[tuple[int, ActionChunk, ActionChunk]]
    """Time of the recorded answer in nanoseconds, recorded chunk, new chunk."""


def replay(
    policy: Policy, entries: Sequence[tuple[int, Entry]], most_repeats: int = MOST_REPEATS
) -> Replay:
    """
    Run a policy on every recorded observation, and compare with the recorded answers.

    A bag can begin anywhere. To restore what a policy remembers (the noise of a diffusion head,
    the attention of earlier steps), the first observation is repeated as often as the policy had
    run since its last reset: the noise is then the same, and the attention similar.

    Args:
        policy: policy to run.
        entries: entries with their times in nanoseconds, as `read_bag` returns them.
        most_repeats: largest number of these repetitions in the whole bag.

    Raises:
        UserError: it takes more repetitions than that, the policy's actions differ from the
            recorded ones in name, unit or timing, no observation has an answer, or an image cannot
            be decoded.
    """
    recorded = {
        entry.chunk.stamp_ns: (time_ns, entry.chunk)
        for time_ns, entry in entries
        if isinstance(entry, Answered)
    }
    answers: list[tuple[int, ActionChunk, ActionChunk]] = []
    expected: int | None = None
    repeats = approximate = 0
    for _, entry in entries:
        if not isinstance(entry, Observed):
            continue
        observation, same = entry.decoded()
        approximate += not same
        if entry.since_reset != expected or expected == 0:
            repeats += entry.since_reset
            if repeats > most_repeats:
                raise UserError(
                    f'the policy had run {entry.since_reset} times since its reset, and a replay '
                    f'repeats that; it would take more than {most_repeats} repetitions: allow '
                    'them with --repeats'
                )
            policy.reset()
            policy.set_budget(entry.budget)
            for _ in range(entry.since_reset):
                policy.predict(observation)
        policy.set_budget(entry.budget)
        chunk = policy.predict(observation).chunk
        expected = entry.since_reset + 1
        if observation.stamp_ns in recorded:
            time_ns, old = recorded[observation.stamp_ns]
            if old.spec != chunk.spec:
                raise UserError(
                    'the policy has other actions than the one recorded: '
                    f'{chunk.spec} instead of {old.spec}'
                )
            answers.append((time_ns, old, chunk))
    if not answers:
        raise UserError('the bag has no observation with its answer')
    spec = answers[0][1].spec
    rows = _due_rows(answers, entries)
    return Replay(
        len(answers),
        approximate,
        spec.names,
        spec.units,
        np.max([np.abs(new.values - old.values).max(0) for _, old, new in answers], 0),
        len(rows),
        np.max([np.abs(new - old) for old, new in rows], 0) if rows else None,
        answers,
    )


def _due_rows(
    answers: list[tuple[int, ActionChunk, ActionChunk]], entries: Sequence[tuple[int, Entry]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the executor's (recorded, new) rows at the time of each command."""
    old, new = ChunkExecutor(), ChunkExecutor()
    waiting = sorted(answers, key=lambda answer: answer[0])
    times = sorted(
        time_ns
        for time_ns, entry in entries
        if isinstance(entry, Commanded) and entry.gripper is None
    )
    rows = []
    for time_ns in times:
        while waiting and waiting[0][0] <= time_ns:
            arrived_ns, first, second = waiting.pop(0)
            for executor, chunk in ((old, first), (new, second)):
                executor.offer(ActionChunk(chunk.values, chunk.spec, chunk.stamp_ns), arrived_ns)
        recorded, replayed = old.row(time_ns), new.row(time_ns)
        if recorded is not None and replayed is not None:
            rows.append((recorded, replayed))
    return rows
