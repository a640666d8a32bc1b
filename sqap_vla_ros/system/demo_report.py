"""Report of the demonstration: a table, the same as JSON, and a GIF."""

from collections.abc import Iterable
from dataclasses import fields
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sqap_vla_ros.system.client import Attempt, FRAME_PERIOD_S

MAX_GIF_BYTES = 4_000_000
SIDE_PIXELS, GAP_PIXELS, BAR_PIXELS = 224, 6, 26
TEXT_COLOUR, BACKGROUND = (235, 235, 235), 24
HEADINGS = (
    'instruction',
    'seed',
    'success',
    'seconds',
    'commands',
    'inference p50/p95',
    'tokens kept',
)


def succeeded_tasks(attempts: Iterable[Attempt]) -> dict[str, bool]:
    """Map each task to whether one of its attempts succeeded."""
    outcome: dict[str, bool] = {}
    for attempt in attempts:
        outcome[attempt.task] = outcome.get(attempt.task, False) or attempt.succeeded
    return outcome


def enough_succeeded(outcome: dict[str, bool]) -> bool:
    """Tell whether at least 4 in 5 tasks succeeded."""
    return 5 * sum(outcome.values()) >= 4 * len(outcome)


def table(attempts: list[Attempt], description: dict[str, str]) -> str:
    """Format all attempts and the memory of the model as text."""
    rows = [HEADINGS, *map(_row, attempts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    lines.insert(1, '  '.join('-' * width for width in widths))
    outcome = succeeded_tasks(attempts)
    memory = model_memory(description)
    lines += [
        '',
        f'tasks done: {sum(outcome.values())} of {len(outcome)}',
        f'model memory: {memory["float_bytes"] / 1e6:.2f} MB in float32, '
        f'{memory["bytes"] / 1e6:.2f} MB compressed (recipe {memory["recipe"]})',
    ]
    return '\n'.join(lines)


def model_memory(description: dict[str, str]) -> dict:
    """Return the bytes of the parameters in the policy node, and their bytes in float32."""
    return {
        'bytes': int(description['parameter_bytes']),
        'float_bytes': int(description['float_parameter_bytes']),
        'recipe': description['recipe'],
    }


def write_json(path: Path, attempts: list[Attempt], description: dict[str, str]) -> None:
    """Write the values of `table`, unrounded."""
    names = [field.name for field in fields(Attempt) if field.name != 'frames']
    outcome = succeeded_tasks(attempts)
    report = {
        'attempts': [{name: getattr(attempt, name) for name in names} for attempt in attempts],
        'tasks': outcome,
        'enough': enough_succeeded(outcome),
        'model_memory': model_memory(description),
    }
    path.write_text(json.dumps(report, indent=1) + '\n', 'utf-8')


def write_gif(path: Path, attempts: list[Attempt], max_bytes: int = MAX_GIF_BYTES) -> bool:
    """
    Write camera and kept tokens side by side, one attempt after another, in real time.

    Frames and colours are reduced until the file has at most `max_bytes`. Returns False if there
    are no frames.
    """
    if not any(attempt.frames for attempt in attempts):
        return False
    for every, colours in ((1, 128), (2, 128), (2, 64), (3, 48), (5, 32), (10, 16)):
        pictures, durations_ms = [], []
        for attempt in attempts:
            for picture in compose(attempt, every):
                pictures.append(Image.fromarray(picture))
                durations_ms.append(round(1e3 * FRAME_PERIOD_S * every))
            if attempt.frames:
                durations_ms[-1] = 1000  # leave time to read how it ended
        palette = _palette(pictures, colours)
        pictures = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], loop=0, duration=durations_ms
        )
        if path.stat().st_size <= max_bytes:
            break
    return True


def compose(attempt: Attempt, every: int = 1) -> Iterable[np.ndarray]:
    """Yield uint8 RGB frames with captions; the last one shows the result."""
    frames = attempt.frames[::every]
    for index, (image, overlay) in enumerate(frames):
        width = 2 * SIDE_PIXELS + GAP_PIXELS
        picture = np.full((SIDE_PIXELS + 2 * BAR_PIXELS, width, 3), BACKGROUND, np.uint8)
        top, bottom = BAR_PIXELS, BAR_PIXELS + SIDE_PIXELS
        picture[top:bottom, :SIDE_PIXELS] = _square(image)
        picture[top:bottom, SIDE_PIXELS + GAP_PIXELS :] = _square(overlay)
        state = ''
        if index == len(frames) - 1:
            state = (
                f'done in {attempt.seconds:.1f} s'
                if attempt.succeeded
                else f'failed: {_short(attempt.reason)}'
            )
        _write(picture, attempt.instruction, 6, 18)
        _write(picture, 'camera', 6, bottom + 18)
        _write(picture, state, 90, bottom + 18)
        _write(
            picture,
            f'{attempt.tokens_kept:.0f} of {attempt.tokens} visual tokens',
            SIDE_PIXELS + GAP_PIXELS,
            bottom + 18,
        )
        yield picture


def _row(attempt: Attempt) -> tuple[str, ...]:
    inference = '-'
    if attempt.inference_p50_ms is not None:
        inference = f'{attempt.inference_p50_ms:.0f} / {attempt.inference_p95_ms:.0f} ms'
    return (
        attempt.instruction,
        str(attempt.seed),
        'yes' if attempt.succeeded else f'no ({_short(attempt.reason)})',
        f'{attempt.seconds:.1f}',
        f'{attempt.command_rate_hz:.1f} Hz',
        inference,
        f'{attempt.tokens_kept:.0f} of {attempt.tokens}',
    )


def _short(reason: str) -> str:
    return reason.split(':')[0]


def _square(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (SIDE_PIXELS, SIDE_PIXELS), interpolation=cv2.INTER_AREA)


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, TEXT_COLOUR, 1, cv2.LINE_AA)


def _palette(pictures: list[Image.Image], colours: int) -> Image.Image:
    """Make one palette for all frames, so that only moving things change between them."""
    few = pictures[:: max(1, len(pictures) // 12)]
    sheet = Image.new('RGB', (few[0].width, few[0].height * len(few)))
    for index, picture in enumerate(few):
        sheet.paste(picture, (0, index * few[0].height))
    # Unlike the median cut, an octree keeps the colours of small objects such as a button.
    return sheet.quantize(colours, Image.Quantize.FASTOCTREE)
