"""
The compression recipe: everything that compression decides, as frozen dataclasses.

Defaults are this package's own where the SQAP-VLA paper (arXiv 2509.09090) gives no value: the
prune layer, the share of each criterion and the protection radius are not published.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
import math

from sqap_vla_ros.compression.pruning.phase import FINE_SPEED_M_S
from sqap_vla_ros.errors import shown

LARGEST_SEED = 2**63 - 1
LARGEST_LAYER, LARGEST_STEPS, LARGEST_GROUP = 256, 1000, 2**18
LONGEST_NAME = 100
FULL_PRECISION_BITS = 16
"""Number of bits in a recipe that means: not quantized."""
TARGETS = ('decoder', 'vision', 'action_head')


@dataclass(frozen=True)
class QuantizationRecipe:
    """
    Symmetric quantization of the linear layers: integers times a scale, without a zero point.

    Raises:
        ValueError: a field has a value that it cannot have, or two fields contradict each other.
    """

    weight_bits: int = 4
    """Bits of an integer weight, 2..8; 16: weights stay in floating point."""
    weight_group: int | None = None
    """
    Consecutive input channels of a weight row that share one scale; None: the whole row.

    Smaller groups round more exactly and store more scales.
    """
    weight_method: str = 'rtn'
    """
    How weights are rounded.

    'rtn': each to the nearest integer. 'gptq' (arXiv 2210.17323): channel by channel, and the
    error of each is corrected in the channels that follow; needs calibration samples.
    """
    weight_clip: str = 'none'
    """
    How the scale of a weight row or group is chosen.

    'none': so that its largest weight fits. 'mse': smaller, where clipping the largest weights
    lowers the squared error of all.
    """
    activation_bits: int = 4
    """Bits of a layer's integer input, 2..8; 16: inputs stay in floating point."""
    activation_granularity: str = 'per_token'
    """Which inputs share a scale: those of one token ('per_token') or all ('per_tensor')."""
    activation_scales: str = 'dynamic'
    """
    When the scales of the inputs are computed.

    'dynamic': at run time, from each input. 'static': once, from calibration samples; needs
    'per_tensor'. The action head then has one scale for each denoising step, because its inputs
    change from noise to action.
    """
    rotation: str = 'hadamard'
    """
    Rotation of each layer's input before it is quantized.

    'hadamard': by random signs and a Hadamard matrix, which spreads single large channels over
    all; the inverse is folded into the weight, so that the product stays the same. 'none': no
    rotation.
    """
    rotate_residual: bool = False
    """
    Rotate the decoder's residual stream offline (QuaRot, arXiv 2404.00456).

    The layers that read the stream then need no rotation of their own at run time. Needs
    rotation 'hadamard' and the target 'decoder'.
    """
    rotate_query_key: bool = True
    """
    Rotate queries and keys in each attention head before they are quantized.

    This is done after the rotary position embedding (RoPE). Their products stay the same.
    """
    query_key_bits: int | None = None
    """
    Bits of the integer queries and keys of attention, 2..8.

    16: they stay in floating point; None: as many as `activation_bits`.
    """
    rotation_seed: int = 0
    """Seed of the random signs of the rotations."""
    targets: tuple[str, ...] = ('decoder',)
    """
    Parts of the model whose linear layers are quantized.

    'decoder': the language model's layers. 'vision': the vision towers. 'action_head': the
    network that produces actions, in families that have one.
    """
    vision_bits: int | None = None
    """Bits of weights and inputs in the target 'vision', 2..8; None: as in the other targets."""

    def of_vision(self) -> 'QuantizationRecipe':
        """Return the recipe of the layers of the target 'vision'."""
        if self.vision_bits is None:
            return self
        return replace(self, weight_bits=self.vision_bits, activation_bits=self.vision_bits)

    def __post_init__(self) -> None:
        for name in ('weight_bits', 'activation_bits'):
            bits = getattr(self, name)
            if bits != FULL_PRECISION_BITS and not 2 <= bits <= 8:
                raise ValueError(
                    f'{name} is {shown(bits)}, expected 2..8, or 16 for full precision'
                )
        for name, others in (
            ('query_key_bits', (None, FULL_PRECISION_BITS)),
            ('vision_bits', (None,)),
        ):
            bits = getattr(self, name)
            if bits not in others and not 2 <= bits <= 8:
                also = '2..8, 16 or null' if FULL_PRECISION_BITS in others else '2..8 or null'
                raise ValueError(f'{name} is {shown(bits)}, expected {also}')
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
        if self.weight_group is not None and not 2 <= self.weight_group <= LARGEST_GROUP:
            raise ValueError(
                f'weight_group is {shown(self.weight_group)}, expected 2 .. {LARGEST_GROUP} or '
                'null'
            )
        _check_seed('rotation_seed', self.rotation_seed)


@dataclass(frozen=True)
class PruningRecipe:
    """
    Removal of visual tokens inside the decoder: how many are kept, where, and which.

    A visual token stands for one patch of a camera image. The number kept is fixed, and so are
    all shapes behind the layer that prunes (SQAP-VLA, arXiv 2509.09090).

    Raises:
        ValueError: a field has a value that it cannot have.
    """

    ratio: float = 0.4
    """Share of the visual tokens that is removed, 0 <= ratio < 1."""
    layer: int = 1
    """
    Tokens are removed before this decoder layer, scored by the attention of the layer before it.

    0: before the decoder, scored by the first layer's queries and keys. Early layers save more
    time; the query has read the instruction from layer 2 on.
    """
    method: str = 'sqap'
    """
    How the budget of tokens is filled.

    'sqap': patches at the end effector, then the most relevant tokens, then tokens that cover
    the rest of the image. 'top': the most relevant tokens alone. 'random': a baseline.
    """
    relevance: str = 'attention'
    """
    What makes a token relevant.

    'attention': that the last token (the task query) attends to it in the layer that scores.
    'temporal': the same in the layers behind the cut, at the previous control steps; the first
    step after a reset keeps all tokens. 'difference': distance from the mean feature of the image.
    """
    relevance_share: float = 0.5
    """'sqap': share of the budget for the most relevant tokens; coverage fills the rest."""
    coverage: str = 'position'
    """
    'sqap': distance by which farthest point sampling spreads tokens.

    'position': in the image. 'feature': cosine distance of the tokens' features.
    """
    smoothing: float = 0.0
    """Weight of earlier control steps in a token's attention, 0 <= smoothing < 1; 0: none."""
    protection_radius_m: float = 0.06
    """
    'sqap': patches within this distance of the end effector are always kept, metres.

    The distance is measured in the plane at the end effector's depth. 0: none are protected.
    """
    fine_ratio: float | None = None
    """Ratio while the arm does fine work (slow, or the gripper moves); None: always `ratio`."""
    fine_speed_m_s: float = FINE_SPEED_M_S
    """End-effector speed below which work is fine, metres per second."""
    seed: int = 0
    """'random': seed of the selection."""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f'ratio is {self.ratio}, expected 0 <= ratio < 1')
        if not 0 <= self.layer <= LARGEST_LAYER:
            raise ValueError(f'layer is {shown(self.layer)}, expected 0 .. {LARGEST_LAYER}')
        _check_seed('seed', self.seed)
        if self.fine_ratio is not None and not 0 <= self.fine_ratio < 1:
            raise ValueError(f'fine_ratio is {self.fine_ratio}, expected 0 <= fine_ratio < 1')
        _one_of('method', self.method, ('sqap', 'top', 'random'))
        _one_of('relevance', self.relevance, ('attention', 'temporal', 'difference'))
        _one_of('coverage', self.coverage, ('position', 'feature'))
        if not 0 <= self.relevance_share <= 1:
            raise ValueError(f'relevance_share is {self.relevance_share}, expected 0..1')
        if not 0 <= self.smoothing < 1:
            raise ValueError(f'smoothing is {self.smoothing}, expected 0 <= smoothing < 1')
        if not 0 < self.fine_speed_m_s < math.inf:
            raise ValueError(f'fine_speed_m_s is {self.fine_speed_m_s}, expected more than 0')
        if not 0 <= self.protection_radius_m < math.inf:
            raise ValueError(f'protection_radius_m is {self.protection_radius_m}, expected >= 0')

    def kept(self, visual_tokens: int, fine: bool = False) -> int:
        """
        Compute the token budget.

        Args:
            visual_tokens: number of visual tokens before pruning.
            fine: whether the arm does fine work (`fine_ratio`).

        Returns:
            Number of visual tokens that are kept, at least one.
        """
        ratio = self.fine_ratio if fine and self.fine_ratio is not None else self.ratio
        return max(1, round(visual_tokens * (1 - ratio)))


@dataclass(frozen=True)
class Recipe:
    """
    One way to compress a model. All parts None: full precision.

    Raises:
        ValueError: the name is none, or `denoising_steps` is less than 1 or more than 1000.
    """

    name: str = 'full'
    """Name in reports and in the description of a loaded policy."""
    quantization: QuantizationRecipe | None = None
    """How linear layers, queries and keys are quantized; None: they stay in floating point."""
    pruning: PruningRecipe | None = None
    """Which visual tokens are removed; None: all are kept."""
    denoising_steps: int | None = None
    """
    Steps of a diffusion or flow head; None: the model's own number.

    Fewer steps are equivalent to step caching: with DDIM (arXiv 2010.02502, eq. 12) and with
    Euler steps, reusing an estimate for the next step is one step of twice the length.
    """

    def __post_init__(self) -> None:
        if not (self.name.isprintable() and 0 < len(self.name) <= LONGEST_NAME):
            raise ValueError(
                f'name is {shown(self.name)}, expected at most {LONGEST_NAME} characters in one '
                'line'
            )
        steps = self.denoising_steps
        if steps is not None and not 1 <= steps <= LARGEST_STEPS:
            raise ValueError(f'denoising_steps is {shown(steps)}, expected 1 .. {LARGEST_STEPS}')


def needs_calibration(recipe: Recipe) -> bool:
    """Whether compression with this recipe needs calibration samples."""
    quantization = recipe.quantization
    return quantization is not None and (
        quantization.weight_method == 'gptq' or quantization.activation_scales == 'static'
    )


def _check_seed(name: str, seed: int) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f'{name} is {shown(seed)}, expected 0 .. 2^63 - 1')


def _one_of(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(
            f'{name} is {shown(value)}, expected one of {", ".join(map(repr, allowed))}'
        )
