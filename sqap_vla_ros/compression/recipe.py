"""
The compression recipe: everything that `compress` decides, as frozen dataclasses and as YAML.

Defaults are this package's own where the SQAP-VLA paper (arXiv 2509.09090) gives no value: the
prune layer, the share of each criterion and the protection radius are not published.
"""

from dataclasses import asdict, dataclass, field, fields, replace
import os
from pathlib import Path
from typing import get_args

import yaml

from sqap_vla_ros.errors import UserError

FULL_PRECISION_BITS = 16
TARGETS = ('decoder', 'vision', 'action_head')
RECIPE_FILE = 'recipe.yaml'


@dataclass(frozen=True)
class QuantizationRecipe:
    """Symmetric round-to-nearest quantization of linear layers."""

    weight_bits: int = 4
    """2..8, or 16 to leave weights alone."""
    weight_group: int | None = None
    """Input channels that share a weight scale; None: one scale per output channel."""
    weight_method: str = 'rtn'
    """'rtn': round to nearest; 'gptq': correct each rounding in what follows (calibration)."""
    weight_clip: str = 'none'
    """'mse': clip weights where that lowers their squared error; 'none'."""
    activation_bits: int = 4
    """2..8, or 16 to leave activations alone."""
    activation_granularity: str = 'per_token'
    """'per_token' or 'per_tensor'."""
    activation_scales: str = 'dynamic'
    """
    'dynamic': computed from each input; 'static': fixed by calibration (needs 'per_tensor').

    Static scales of the action head are one for each denoising step.
    """
    rotation: str = 'hadamard'
    """'hadamard': rotate each linear's input (folded into its weight); 'none'."""
    rotate_residual: bool = False
    """
    Rotate the decoder's residual stream offline (QuaRot, arXiv 2404.00456).

    What reads it is then rotated already, and needs no rotation at run time.
    """
    rotate_query_key: bool = True
    """Rotate queries and keys per head after RoPE, before they are quantized."""
    query_key_bits: int | None = None
    """2..8, or 16 to leave queries and keys alone; None: as activation_bits."""
    rotation_seed: int = 0
    """Seed of the rotation's random signs."""
    targets: tuple[str, ...] = ('decoder',)
    """Which parts of the model: 'decoder', 'vision', 'action_head'."""
    vision_bits: int | None = None
    """2..8, weight and activation bits of the target 'vision'; None: as the other targets."""

    def of_vision(self) -> 'QuantizationRecipe':
        """Return the recipe of the layers of the target 'vision'."""
        if self.vision_bits is None:
            return self
        return replace(self, weight_bits=self.vision_bits, activation_bits=self.vision_bits)

    def __post_init__(self) -> None:
        for name in ('weight_bits', 'activation_bits'):
            bits = getattr(self, name)
            if bits != FULL_PRECISION_BITS and not 2 <= bits <= 8:
                raise ValueError(f'{name} is {bits}, expected 2..8, or 16 for full precision')
        bits = self.query_key_bits
        if bits not in (None, FULL_PRECISION_BITS) and not 2 <= bits <= 8:
            raise ValueError(f'query_key_bits is {bits}, expected 2..8, 16 or null')
        if self.vision_bits is not None and not 2 <= self.vision_bits <= 8:
            raise ValueError(f'vision_bits is {self.vision_bits}, expected 2..8 or null')
        _one_of('activation_granularity', self.activation_granularity, ('per_token', 'per_tensor'))
        _one_of('rotation', self.rotation, ('hadamard', 'none'))
        _one_of('weight_method', self.weight_method, ('rtn', 'gptq'))
        _one_of('weight_clip', self.weight_clip, ('none', 'mse'))
        _one_of('activation_scales', self.activation_scales, ('dynamic', 'static'))
        if self.activation_scales == 'static' and self.activation_granularity != 'per_tensor':
            raise ValueError(
                "activation_scales is 'static', which needs activation_granularity 'per_tensor'"
            )
        if self.rotate_residual and (self.rotation == 'none' or 'decoder' not in self.targets):
            raise ValueError("rotate_residual needs rotation 'hadamard' and target 'decoder'")
        for target in self.targets:
            _one_of('targets', target, TARGETS)
        if self.weight_group is not None and self.weight_group < 2:
            raise ValueError(f'weight_group is {self.weight_group}, expected at least 2 or null')


@dataclass(frozen=True)
class PruningRecipe:
    """Fixed-budget selection of visual tokens inside the decoder (SQAP-VLA, pruning)."""

    ratio: float = 0.4
    """Share of visual tokens removed, 0 <= ratio < 1."""
    layer: int = 1
    """
    Tokens are removed before this decoder layer, scored by the attention of the layer before it.

    0: before the decoder, scored by the first layer's queries and keys.
    """
    method: str = 'sqap'
    """'sqap' (relevance, protection, coverage), 'top' (relevance only) or 'random'."""
    relevance: str = 'attention'
    """
    What makes a token relevant.

    'attention': of the task query, in the layer that scores; 'temporal': of the task query, in the
    layers behind the pruning layer at the previous control steps (the first step after a reset
    keeps all tokens); 'difference': from the mean feature of the image.
    """
    relevance_share: float = 0.5
    """'sqap': share of the budget that the most relevant tokens take; coverage fills the rest."""
    coverage: str = 'position'
    """'sqap': farthest point sampling by 'position' in the image or by cosine of the 'feature'."""
    smoothing: float = 0.0
    """Share of earlier control steps in a token's attention, 0 <= smoothing < 1."""
    protection_radius_m: float = 0.06
    """
    'sqap': patches within this distance of the end effector, metres in its plane, are kept.

    0: none.
    """
    fine_ratio: float | None = None
    """Ratio while the arm does fine work (slow, or the gripper moves); null: always `ratio`."""
    fine_speed_m_s: float = 0.05
    """End-effector speed below which work is fine, metres a second."""
    seed: int = 0
    """'random': seed of the selection."""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f'ratio is {self.ratio}, expected 0 <= ratio < 1')
        if self.layer < 0:
            raise ValueError(f'layer is {self.layer}, expected 0 or more')
        if self.fine_ratio is not None and not 0 <= self.fine_ratio < 1:
            raise ValueError(f'fine_ratio is {self.fine_ratio}, expected 0 <= fine_ratio < 1')
        _one_of('method', self.method, ('sqap', 'top', 'random'))
        _one_of('relevance', self.relevance, ('attention', 'temporal', 'difference'))
        _one_of('coverage', self.coverage, ('position', 'feature'))
        if not 0 <= self.relevance_share <= 1:
            raise ValueError(f'relevance_share is {self.relevance_share}, expected 0..1')
        if not 0 <= self.smoothing < 1:
            raise ValueError(f'smoothing is {self.smoothing}, expected 0 <= smoothing < 1')
        if not self.fine_speed_m_s > 0:
            raise ValueError(f'fine_speed_m_s is {self.fine_speed_m_s}, expected more than 0')
        if not self.protection_radius_m >= 0:
            raise ValueError(f'protection_radius_m is {self.protection_radius_m}, expected >= 0')

    def kept(self, visual_tokens: int, fine: bool = False) -> int:
        """Token budget for `visual_tokens` visual tokens; at least one."""
        ratio = self.fine_ratio if fine and self.fine_ratio is not None else self.ratio
        return max(1, round(visual_tokens * (1 - ratio)))


@dataclass(frozen=True)
class Recipe:
    """One way to compress a model. All parts None: full precision."""

    name: str = 'full'
    quantization: QuantizationRecipe | None = None
    pruning: PruningRecipe | None = None
    denoising_steps: int | None = None
    """
    Steps of a diffusion or flow head in place of the model's own.

    Fewer amount to step caching: with DDIM (arXiv 2010.02502, eq. 12) and Euler steps, to use an
    estimate again for the next step is one step of twice the length.
    """

    def __post_init__(self) -> None:
        if self.denoising_steps is not None and self.denoising_steps < 1:
            raise ValueError(f'denoising_steps is {self.denoising_steps}, expected 1 or more')


_TYPES = {'quantization': QuantizationRecipe, 'pruning': PruningRecipe}


def needs_calibration(recipe: Recipe) -> bool:
    """Whether `compress` needs samples for this recipe."""
    quantization = recipe.quantization
    return quantization is not None and (
        quantization.weight_method == 'gptq' or quantization.activation_scales == 'static'
    )


def recipe_from_dict(data: dict, source: str = 'recipe') -> Recipe:
    """
    Build a recipe from plain data, as YAML gives it.

    Raises UserError that names the unknown key or the wrong value and `source`.
    """
    data = dict(_mapping(data, source))
    parts = {}
    for part, kind in _TYPES.items():
        value = data.pop(part, None)
        if value is not None:
            parts[part] = _build(kind, _mapping(value, f'{source}: {part}'), f'{source}: {part}')
    return _build(Recipe, {**data, **parts}, source)


def recipe_to_dict(recipe: Recipe) -> dict:
    """Plain data that `recipe_from_dict` turns back into an equal recipe."""
    data = asdict(recipe)
    if data['quantization']:
        data['quantization']['targets'] = list(data['quantization']['targets'])
    return data


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a YAML file. Raises UserError with the file's name."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'recipe {path}: no such file') from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'recipe {path}: not readable as YAML: {reason}') from None
    return recipe_from_dict({} if data is None else data, f'recipe {path}')


def find_recipe(name: str | Path) -> Path:
    """
    Path of a recipe: a file as it is, or the name of one that comes with the package.

    Raises UserError that lists the names.
    """
    path = Path(name)
    if path.suffix or path.exists():
        return path
    shares = [
        Path(prefix) / 'share' / 'sqap_vla_ros'
        for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
        if prefix
    ]
    for root in [Path(__file__).parents[2], *shares]:
        folder = root / 'config' / 'recipes'
        if (folder / f'{name}.yaml').exists():
            return folder / f'{name}.yaml'
        if folder.is_dir():
            names = ', '.join(sorted(file.stem for file in folder.glob('*.yaml')))
            raise UserError(f'recipe {name!r}: no such file; recipes of the package: {names}')
    raise UserError(f'recipe {name!r}: no such file, and no recipes of the package either')


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as YAML."""
    Path(path).write_text(yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False), 'utf-8')


def _mapping(data, source):
    if not isinstance(data, dict):
        raise UserError(
            f'{source}: expected a mapping of keys to values, got {type(data).__name__}'
        )
    return data


def _build(kind, data, source):
    known = {f.name: f for f in fields(kind)}
    for key in data:
        if key not in known:
            raise UserError(f'{source}: unknown key {key!r}; known keys: {", ".join(known)}')
    values = {key: _coerce(known[key], value, source) for key, value in data.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UserError(f'{source}: {error}') from None


def _coerce(spec: field, value, source):
    """Check the plain types here, so that dataclasses compare numbers with numbers only."""
    kind = spec.type
    if kind == tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise UserError(f'{source}: {spec.name} is {value!r}, expected a list of names')
    if kind in (QuantizationRecipe | None, PruningRecipe | None):
        return value
    allowed = get_args(kind) or (kind,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, allowed) and (kind is bool or not isinstance(value, bool)):
        return value
    name = ' or '.join('null' if t is type(None) else t.__name__ for t in allowed)
    raise UserError(f'{source}: {spec.name} is {value!r}, expected {name}')


def _one_of(name, value, allowed) -> None:
    if value not in allowed:
        raise ValueError(f'{name} is {value!r}, expected one of {", ".join(map(repr, allowed))}')
