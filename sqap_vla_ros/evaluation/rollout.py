"""Closed-loop episodes: policy, controller and simulated arm, on the clock of the simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import itertools

import numpy as np

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.control.chunk_executor import ChunkExecutor, ExecutorConfig
from sqap_vla_ros.control.command import CommandMapping, STILL
from sqap_vla_ros.control.limits import CommandLimiter, MotionLimits
from sqap_vla_ros.control.real_time_chunking import continuation
from sqap_vla_ros.control.si_actions import SiActions
from sqap_vla_ros.policy import Observation, Policy
from sqap_vla_ros.simulation.arm import SimulatedArm
from sqap_vla_ros.simulation.tasks import expert_action


@dataclass(frozen=True)
class Protocol:
    """How an episode is run. Variants are compared under one protocol."""

    limit_s: float = 8.0
    """Robot time after which an episode counts as failed, seconds."""
    inference_period_s: float = 0.2
    """Robot time from one observation to the next, seconds."""
    delay_s: float = 0.1
    """Robot time from an observation to its chunk; rows whose time has passed are skipped."""
    command_period_s: float = 0.02
    """Robot time between two commands, seconds."""
    sequential: bool = False
    """
    Execute each chunk from its first row to its end, stop, and only then observe again.

    `inference_period_s` then has no effect. False: infer while moving.
    """
    executor: ExecutorConfig = ExecutorConfig()
    limited: bool = True
    """False: rows are sent to the arm without the limiter, as in a plain loop around a policy."""


@dataclass(frozen=True)
class Episode:
    """The outcome of one episode."""

    task: str
    seed: int
    succeeded: bool
    wrong: bool
    """Whether it ended because something other than the instruction was done."""
    duration_s: float
    """Robot time, seconds."""
    inferences: int
    tokens_kept: float
    """Mean over inferences."""
    jerk_m_s3: float
    """Root mean square of the commanded velocity's second difference."""
    pauses: int
    """How often there was no row to execute after the first chunk had arrived."""
    paused_s: float
    """Robot time of all pauses, seconds."""
    latency_ms: dict[str, float]
    """Stage to its median latency over the episode's inferences."""


def run_episode(
    arm: SimulatedArm,
    policy: Policy,
    instruction: str,
    seed: int,
    protocol: Protocol = Protocol(),
    images: Callable[[np.ndarray], np.ndarray] | None = None,
    trace: list[np.ndarray] | None = None,
) -> Episode:
    """
    Run one episode, with the command path of the node: executor, limiter, fixed command rate.

    Args:
        arm: simulated arm; it is reset to `seed`.
        policy: policy to run; it is reset.
        instruction: what the policy is told.
        seed: seed of the scene.
        protocol: periods, delay and execution mode.
        images: maps the true image to the one that the policy sees; None: the true image.
        trace: list that gets the commanded velocities [3], m/s, one per command period.
    """
    arm.reset(seed=seed)
    policy.reset()
    executor = ChunkExecutor(protocol.executor)
    limiter = CommandLimiter(MotionLimits())
    converter = SiActions(policy.spec.action)
    mapping = CommandMapping(converter.spec)
    pending: ActionChunk | None = None
    chunk: ActionChunk | None = None
    due_s, next_inference_s = 0.0, 0.0
    commands: list[np.ndarray] = []
    kept: list[int] = []
    latencies: list[dict[str, float]] = []
    due_rows: list[bool] = []
    while arm.time_s < protocol.limit_s - 1e-9 and not arm.succeeded and not arm.failed:
        now_ns = round(arm.time_s * 1e9)
        if pending is None and arm.time_s >= next_inference_s - 1e-9:
            observation = observe(arm, instruction, images)
            if protocol.executor.mode.continues:
                follow = continuation(chunk, now_ns, protocol.delay_s, protocol.inference_period_s)
                observation = replace(observation, continuation=follow)
            inference = policy.predict(observation)
            kept.append(inference.tokens_kept)
            latencies.append(inference.latencies_ms)
            pending, due_s = inference.chunk, arm.time_s + protocol.delay_s
            next_inference_s = _next_inference_s(arm.time_s, inference.chunk.spec, protocol)
        if pending is not None and arm.time_s >= due_s - 1e-9:
            stamp_ns = now_ns if protocol.sequential else pending.stamp_ns
            executor.offer(
                replace(
                    converter.chunk(pending), generation=executor.generation, stamp_ns=stamp_ns
                ),
                now_ns,
            )
            pending, chunk = None, pending
        row = executor.row(now_ns)
        due_rows.append(row is not None)
        wanted = None if row is None else mapping.command(row)
        command = wanted or STILL
        if protocol.limited:
            command = limiter.limit(wanted, protocol.command_period_s, arm.end_effector_m)
        commands.append(command.linear_m_s)
        arm.command(
            command.linear_m_s, arm.gripper if command.gripper is None else command.gripper
        )
        arm.step(protocol.command_period_s)
    if trace is not None:
        trace.extend(commands)
    pauses, paused = count_pauses(due_rows)
    return Episode(
        arm.task.name,
        seed,
        bool(arm.succeeded),
        bool(arm.failed),
        round(float(arm.time_s), 4),
        len(kept),
        float(np.mean(kept)),
        _jerk(commands, protocol.command_period_s),
        pauses,
        round(paused * protocol.command_period_s, 4),
        {
            stage: round(float(np.median([latency[stage] for latency in latencies])), 3)
            for stage in latencies[0]
        },
    )


def observe(
    arm: SimulatedArm,
    instruction: str,
    images: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Observation:
    """Return what the ROS node would give to a policy now; `images` as in `run_episode`."""
    image = arm.image()
    return Observation(
        {'camera': image if images is None else images(image)},
        instruction,
        arm.state,
        {'camera': arm.camera},
        arm.end_effector_m.copy(),
        round(arm.time_s * 1e9),
    )


def expert_frames(arm: SimulatedArm, seeds: range, every_s: float = 0.2) -> list[np.ndarray]:
    """Record images of the expert's episodes, uint8 [H, W, 3], for the shuffled-image baseline."""
    frames = []
    for seed in seeds:
        arm.reset(seed=seed)
        while arm.time_s < 8 and not arm.succeeded:
            frames.append(arm.image())
            for _ in range(round(every_s / 0.05)):
                action = expert_action(arm)
                arm.command(action[:3], action[3])
                arm.step(0.05)
    return frames


def count_pauses(due: list[bool]) -> tuple[int, int]:
    """Count the pauses after the first row that was due, and the commands in them."""
    if True not in due:
        return 0, 0
    after = due[due.index(True) :]
    begins = sum(before and not now for before, now in itertools.pairwise(after))
    return begins, after.count(False)


def _next_inference_s(now_s: float, spec: ActionSpec, protocol: Protocol) -> float:
    if protocol.sequential:
        return now_s + protocol.delay_s + spec.horizon * spec.step_s
    return now_s + protocol.inference_period_s


def _jerk(velocities: Sequence[np.ndarray], period_s: float) -> float:
    if len(velocities) < 3:
        return 0.0
    return float(np.sqrt(np.mean((np.diff(velocities, n=2, axis=0) / period_s**2) ** 2)))
