"""`sqap_vla compress`: compress a float policy directory with a recipe."""

import argparse
from collections.abc import Iterable
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('policy', type=Path, help='float policy directory')
    parser.add_argument(
        'output',
        type=Path,
        help='directory to write; an earlier compressed policy there is replaced',
    )
    parser.add_argument(
        '--recipe',
        default='sqap_w4a4_prune40',
        help='recipe file, or a name that `sqap_vla recipes` lists (default %(default)s)',
    )
    parser.add_argument(
        '--calibration',
        type=Path,
        metavar='FILE',
        help='samples for recipes that need them, .npz (default: calibration.npz of the policy)',
    )


def run(arguments: argparse.Namespace) -> int:
    """Compress, write, and print what was saved."""
    from tqdm import tqdm

    from sqap_vla_ros.compression.recipe_files import load_recipe
    from sqap_vla_ros.models.compress_policy import compress

    recipe = load_recipe(arguments.recipe)

    def progress(layers: Iterable[str]) -> Iterable[str]:
        bar: Iterable[str] = tqdm(
            layers, desc=f'layers ({recipe.name})', unit='layer', disable=None
        )
        return bar

    summary = compress(arguments.policy, arguments.output, recipe, progress, arguments.calibration)
    print(
        f'{arguments.output}: {summary.layers} layers quantized, weights '
        f'{summary.float_bytes / 1e6:.2f} MB in float32 -> {summary.packed_bytes / 1e6:.2f} MB'
    )
    return 0
