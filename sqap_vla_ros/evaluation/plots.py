"""Plots of a report: success against pruned share and against bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sqap_vla_ros.compression.recipe import PruningRecipe, QuantizationRecipe, Recipe
from sqap_vla_ros.evaluation.proportions import wilson_interval
from sqap_vla_ros.evaluation.result_files import known_recipe

_MARKERS = 'osD^v<>P*X'
PRUNING_TITLE, BITS_TITLE = 'Success against pruned share', 'Success against bits'


@dataclass(frozen=True)
class Point:
    """A variant's recipe and its success."""

    recipe: Recipe
    successes: int
    episodes: int

    @property
    def bits(self) -> str:
        """Bits of weights and activations, such as 'W4A4'; '' in full precision."""
        q = self.recipe.quantization
        return '' if q is None else f'W{q.weight_bits}A{q.activation_bits}'

    @property
    def bit_widths(self) -> tuple[int, int]:
        """Bits of weights and activations of a quantized variant."""
        q = self.recipe.quantization
        if q is None:
            raise ValueError('a variant in full precision has no bit widths')
        return q.weight_bits, q.activation_bits

    @property
    def rotated(self) -> bool:
        """Whether inputs of linear layers are rotated before they are quantized."""
        q = self.recipe.quantization
        return q is not None and q.rotation != 'none'


def points_of(summaries: list[dict]) -> list[Point]:
    """Look up the variants' recipes; variants whose recipe is not found are left out."""
    return [
        Point(recipe, round(s['success'] * s['episodes']), s['episodes'])
        for s in summaries
        if (recipe := known_recipe(s['variant'])) is not None
    ]


def rule(pruning: PruningRecipe) -> str:
    """Describe how a recipe selects tokens."""
    if pruning.method == 'random':
        return 'random'
    relevance = {
        'attention': 'attention',
        'temporal': 'attention of earlier steps',
        'difference': 'difference from the mean',
    }[pruning.relevance]
    if pruning.method == 'top':
        return relevance
    robot = ' + robot' if pruning.protection_radius_m > 0 else ''
    return f'{relevance}{robot} + {pruning.coverage}s'


def draw_plots(summaries: list[dict], directory: Path) -> dict[str, str]:
    """
    Write the plots for which there is data.

    Args:
        summaries: one per variant, from `summary.summarise`.
        directory: where the plots are written.

    Returns:
        Title to file name.
    """
    points = points_of(summaries)
    plots = {
        PRUNING_TITLE: ('pruning.png', _pruning(points)),
        BITS_TITLE: ('bits.png', _bits(points)),
    }
    written = {}
    for title, (file, figure) in plots.items():
        if figure is not None:
            figure.savefig(directory / file, dpi=110)
            written[title] = file
    return written


def _pruning(points: list[Point]) -> Figure | None:
    groups: dict[str, dict[str, list[Point]]] = {}
    for point in points:
        if point.recipe.pruning is not None:
            name = rule(point.recipe.pruning)
            if point.bits and not point.rotated:
                name += ', not rotated'
            name += _beyond_decoder(point.recipe.quantization)
            groups.setdefault(point.bits, {}).setdefault(name, []).append(point)
    if not groups:
        return None
    names = list(dict.fromkeys(name for lines in groups.values() for name in lines))
    figure = Figure(figsize=(5.2 * len(groups), 4.6), layout='constrained')
    for axes, (bits, lines) in zip(
        figure.subplots(1, len(groups), sharey=True, squeeze=False)[0], sorted(groups.items())
    ):
        for name, own in lines.items():
            unpruned = [
                p
                for p in points
                if p.recipe.pruning is None
                and (p.bits, p.rotated) == (bits, own[0].rotated)
                and _beyond_decoder(p.recipe.quantization)
                == _beyond_decoder(own[0].recipe.quantization)
            ]
            own = sorted(unpruned + own, key=lambda p: _ratio(p.recipe))
            _line(axes, [100 * _ratio(p.recipe) for p in own], own, name, names.index(name))
        axes.set(title=bits or 'full precision', xlabel='visual tokens pruned (%)', xlim=(-4, 100))
    figure.axes[0].set(ylabel='success (%)', ylim=(0, 102))
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    columns = min(2, len(groups))
    figure.legend(list(handles.values()), list(handles), loc='outside lower center', ncols=columns)
    return figure


def _bits(points: list[Point]) -> Figure | None:
    own = [
        point
        for point in points
        if point.recipe.pruning is None and not _beyond_decoder(point.recipe.quantization)
    ]
    quantized = [point for point in own if point.bits]
    if len({point.bits for point in quantized}) < 2:
        return None
    order = [
        f'W{weight}A{activation}'
        for weight, activation in sorted({p.bit_widths for p in quantized})
    ]
    figure = Figure(figsize=(6.4, 4), layout='constrained')
    axes = figure.subplots()
    for rotated in (True, False):
        line = sorted(
            (p for p in quantized if p.rotated == rotated), key=lambda p: order.index(p.bits)
        )
        if line:
            name = 'with Hadamard rotation' if rotated else 'without'
            _line(axes, [order.index(p.bits) for p in line], line, name, int(rotated))
    for full in (p for p in own if not p.bits):
        axes.axhline(
            100 * full.successes / full.episodes,
            color='grey',
            linestyle='--',
            label='full precision',
        )
    axes.set(
        xticks=range(len(order)),
        xticklabels=order,
        xlabel='bits of weights, activations',
        ylabel='success (%)',
        ylim=(0, 102),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _beyond_decoder(quantization: QuantizationRecipe | None) -> str:
    """Describe what is quantized besides the decoder, to keep such variants apart."""
    if quantization is None:
        return ''
    bits = {'vision': quantization.of_vision().weight_bits}
    return ''.join(
        f', {target.replace("_", " ")} in {bits.get(target, quantization.weight_bits)} bits'
        for target in quantization.targets
        if target != 'decoder'
    )


def _ratio(recipe: Recipe) -> float:
    return 0.0 if recipe.pruning is None else recipe.pruning.ratio


def _line(
    axes: Axes, places: Sequence[float], points: list[Point], name: str, number: int
) -> None:
    shares = [100 * p.successes / p.episodes for p in points]
    ends = [wilson_interval(p.successes, p.episodes) for p in points]
    errors = [
        [share - 100 * low for share, (low, _) in zip(shares, ends)],
        [100 * high - share for share, (_, high) in zip(shares, ends)],
    ]
    # Shifted sideways, so that intervals do not overlap.
    step = 0.6 if max(places) > 10 else 0.02
    axes.errorbar(
        [place + step * number for place in places],
        shares,
        errors,
        label=name,
        marker=_MARKERS[number % len(_MARKERS)],
        color=f'C{number}',
        capsize=3,
    )
    axes.grid(alpha=0.3)
