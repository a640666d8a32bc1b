"""Run a policy again on what a black box recorded, and compare."""

from dataclasses import dataclass

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk
from sqap_vla_ros.control.chunk_executor import ChunkExecutor
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.recording.entries import Answered, Commanded, Observed


@dataclass(frozen=True)
class Replay:
    """How a policy's answers to recorded observations differ from those recorded."""

    inferences: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    chunk_difference: np.ndarray
    """float64 [actions]: largest absolute difference of any row, in `units`."""
    commands: int
    """Commands for whose time both have a row."""
    command_difference: np.ndarray | None
    """float64 [actions]: the same of the rows due when commands were sent, not limited yet."""
    answers: list[tuple[int, ActionChunk, ActionChunk]]
    """Time of the recorded answer, recorded chunk, new chunk."""


def replay(policy: Policy, entries: list[tuple[int, object]]) -> Replay:
    """
    Let the policy answer every recorded observation that was answered.

    A bag begins anywhere. For what a policy remembers (noise of a diffusion head, attention of
    earlier steps), the first observation is repeated as often as the policy had been asked since
    its last reset: that brings the noise to where it was, the attention near to it.

    Raises UserError when the policy is another one than that recorded.
    """
    recorded = {
        entry.chunk.stamp_ns: (time_ns, entry.chunk)
        for time_ns, entry in entries
        if isinstance(entry, Answered)
    }
    answers, expected = [], None
    for _, entry in entries:
        if not isinstance(entry, Observed):
            continue
        if entry.since_reset != expected or expected == 0:
            policy.reset()
            policy.set_budget(entry.budget)
            for _ in range(entry.since_reset):
                policy.predict(entry.observation)
        policy.set_budget(entry.budget)
        chunk = policy.predict(entry.observation).chunk
        expected = entry.since_reset + 1
        if entry.observation.stamp_ns in recorded:
            time_ns, old = recorded[entry.observation.stamp_ns]
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
        spec.names,
        spec.units,
        np.max([np.abs(new.values - old.values).max(0) for _, old, new in answers], 0),
        len(rows),
        np.max([np.abs(new - old) for old, new in rows], 0) if rows else None,
        answers,
    )


def _due_rows(answers, entries):
    """Return (recorded, new) row for the time of each command, as the executor gives them."""
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
        pair = old.row(time_ns), new.row(time_ns)
        if pair[0] is not None and pair[1] is not None:
            rows.append(pair)
    return rows
