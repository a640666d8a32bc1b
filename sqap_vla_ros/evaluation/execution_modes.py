"""Compares execution modes, inference while the arm moves or stands: same scenes and delay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sqap_vla_ros.control.chunk_executor import ExecutorConfig, Mode
from sqap_vla_ros.evaluation.proportions import percent
from sqap_vla_ros.evaluation.rollout import Protocol, run_episode
from sqap_vla_ros.evaluation.runner import Experiment, load_variant, run_experiment
from sqap_vla_ros.evaluation.summary import compare
from sqap_vla_ros.simulation.arm import SimulatedArm

MODES = ('asynchronous', 'real_time_chunking', 'sequential', 'plain')
"""
real_time_chunking: asynchronous, and each chunk is inferred as a continuation of the one being
executed; plain: sequential, with neither interpolation nor limiter.
"""
MOVING = MODES[:2]
"""Modes that infer while the arm moves."""


def protocols(delay_s: float) -> dict[str, Protocol]:
    """Return each mode's protocol; a chunk always arrives `delay_s` after its observation."""
    asynchronous = Protocol(delay_s=delay_s, inference_period_s=max(delay_s, 0.2))
    continued = replace(asynchronous, executor=ExecutorConfig(Mode.REAL_TIME_CHUNKING))
    sequential = replace(asynchronous, sequential=True)
    plain = replace(
        sequential, limited=False, executor=ExecutorConfig(interpolate=False, blend_s=0.0)
    )
    return dict(zip(MODES, (asynchronous, continued, sequential, plain)))


def run_modes(
    experiment: Experiment, delay_s: float, workers: int, log: Path | None = None
) -> dict[str, list[dict]]:
    """
    Run an experiment in every mode.

    Args:
        experiment: what to run; its protocol is replaced.
        delay_s: robot time from an observation to its chunk, seconds.
        workers: processes.
        log: prefix of one log file per mode, from which an interrupted run continues.

    Returns:
        Mode to its episodes.
    """
    return {
        mode: run_experiment(
            replace(experiment, protocol=protocol), workers, log and Path(f'{log}.{mode}')
        )
        for mode, protocol in protocols(delay_s).items()
    }


def summarise_modes(episodes: dict[str, list[dict]]) -> dict[str, Any]:
    """
    Summarise success, jerk and pauses of each mode, and compare `MOVING` with the other modes.

    Jerk is the mean square over all commands of a mode, in the scenes that every mode solved: an
    arm that stands still after a failure is smooth, too.
    """
    solved_by_all = set.intersection(
        *({(e['task'], e['seed']) for e in own if e['succeeded']} for own in episodes.values())
    )
    report: dict[str, Any] = {}
    for mode, own in episodes.items():
        solved = [e for e in own if (e['task'], e['seed']) in solved_by_all]
        weights = [e['duration_s'] for e in solved]
        squares = [e['jerk_m_s3'] ** 2 for e in solved]
        report[mode] = {
            'episodes': len(own),
            'successes': sum(e['succeeded'] for e in own),
            'mean_squared_jerk_m2_s6': float(np.average(squares, weights=weights))
            if solved
            else None,
            'median_duration_s': float(np.median(weights)) if solved else None,
            'episodes_with_pauses': sum(e['pauses'] > 0 for e in own),
            'pauses': sum(e['pauses'] for e in own),
            'paused_share': sum(e['paused_s'] for e in own) / sum(e['duration_s'] for e in own),
        }
    report['solved_by_all'] = len(solved_by_all)
    report['against'] = {
        mode: {
            other: {
                'success': compare(episodes[mode], episodes[other]),
                'jerk_ratio': report[other]['mean_squared_jerk_m2_s6']
                / report[mode]['mean_squared_jerk_m2_s6']
                if solved_by_all
                else None,
            }
            for other in MODES[2:]
        }
        for mode in MOVING
    }
    return report


def text(report: dict) -> str:
    """Format as plain text: one row per mode, then the comparisons."""
    lines = []
    for mode in MODES:
        own = report[mode]
        jerk, duration = own['mean_squared_jerk_m2_s6'], own['median_duration_s']
        lines.append(
            f'{mode:18} success {percent(own["successes"], own["episodes"])} of '
            f'{own["episodes"]}, pauses {own["pauses"]} in {own["episodes_with_pauses"]} '
            f'episodes ({100 * own["paused_share"]:.1f} % of the time)'
            + (
                ''
                if jerk is None
                else f', mean squared jerk {jerk:.1f} m^2/s^6, median time to '
                f'success {duration:.2f} s'
            )
        )
    for mode, other in ((mode, other) for mode in MOVING for other in MODES[2:]):
        against = report['against'][mode][other]
        success, ratio = against['success'], against['jerk_ratio']
        low, high = success['difference_95']
        lines.append(
            f'{mode} - {other}: success {100 * success["difference"]:+.1f} points, 95 % '
            f'interval {100 * low:+.1f} .. {100 * high:+.1f}, {success["pairs"]} pairs'
            + (
                ''
                if ratio is None
                else f'; mean squared jerk {ratio:.2f} times lower (in '
                f'{report["solved_by_all"]} scenes that all solved)'
            )
        )
    return '\n'.join(lines)


def scene_with_most_pauses(episodes: dict[str, list[dict]]) -> tuple[str, int]:
    """Find the scene (task, seed) with the most pauses, among those that all modes solved."""
    failed = {
        (e['task'], e['seed']) for own in episodes.values() for e in own if not e['succeeded']
    }
    own = episodes['sequential']
    chosen = max(
        [e for e in own if (e['task'], e['seed']) not in failed] or own, key=lambda e: e['pauses']
    )
    return chosen['task'], chosen['seed']


def plot_example(
    path: Path, policy: str, variant: str, task: str, seed: int, delay_s: float
) -> None:
    """
    Draw the commanded speed of one episode in every mode.

    Args:
        path: file to write, in a format that matplotlib knows.
        policy: float policy directory.
        variant: recipe name or file; 'full' for none.
        task: task of the scene.
        seed: seed of the scene.
        delay_s: robot time from an observation to its chunk, seconds.

    Raises:
        UserError: the policy or the recipe cannot be loaded.
    """
    from matplotlib.figure import Figure

    loaded, arm = load_variant(policy, variant), SimulatedArm(task)
    figure = Figure(figsize=(8, 3.6), layout='constrained')
    axes = figure.add_subplot()
    for mode, protocol in protocols(delay_s).items():
        velocities: list[np.ndarray] = []
        instructions = arm.task.instructions
        episode = run_episode(
            arm, loaded, instructions[seed % len(instructions)], seed, protocol, trace=velocities
        )
        speeds = np.linalg.norm(velocities, axis=1)
        outcome = 'success' if episode.succeeded else 'no success'
        axes.plot(
            np.arange(len(speeds)) * protocol.command_period_s,
            speeds,
            label=f'{mode} ({outcome} after {episode.duration_s:.1f} s)',
        )
    arm.close()
    axes.set(
        xlabel='robot time (s)',
        ylabel='commanded speed (m/s)',
        ylim=(0, None),
        title=f'{task}, a chunk {1e3 * delay_s:.0f} ms after its observation',
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
