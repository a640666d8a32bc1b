"""Configurations of the model families, as stored in a policy directory's `config.json`."""

from dataclasses import asdict, dataclass, field, fields
import json
from pathlib import Path

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json

CONFIG_FILE = 'config.json'


@dataclass(frozen=True)
class VisionConfig:
    """One vision encoder; its features and those of further encoders are concatenated."""

    kind: str = 'siglip'
    """
    'siglip': transformers' SiglipVisionModel without its pooling head; 'dinov2': its
    Dinov2WithRegistersModel, of which the patch tokens are used.
    """
    model: dict = field(default_factory=dict)
    """Keyword arguments of the encoder's transformers configuration."""
    attention_window: int | None = None
    """
    Patches attend to patches at most this many rows and columns away; None: to all.

    The small policy needs it: a few global layers would mix the whole image into every token,
    and then it would not matter which tokens are pruned.
    """
    final_norm: bool = True
    """Whether features pass the encoder's last layer norm."""
    drop_last_layers: int = 0
    """Encoder layers left out at the end (Prismatic VLMs take the last but one)."""
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class ActionHeadConfig:
    """Diffusion transformer (CogACT, arXiv 2411.19650, section 3.3)."""

    hidden_size: int = 384
    depth: int = 6
    heads: int = 4
    diffusion_steps: int = 100
    ddim_steps: int = 10
    guidance: float = 1.5
    """Classifier-free guidance scale; 1: off."""


@dataclass(frozen=True)
class CogActConfig:
    """Everything that builds the module tree and interprets its inputs and outputs."""

    vision: tuple[VisionConfig, ...]
    llama: dict
    """Keyword arguments of transformers' LlamaConfig."""
    action_head: ActionHeadConfig
    image_size: int
    """Images are squashed to this many pixels a side."""
    projector: str = 'gelu-mlp'
    """'gelu-mlp' (two layers) or 'fused-gelu-mlp' (three), as Prismatic VLMs name them."""
    text: str = 'words'
    """
    'words': vocabulary.json, one id a word, padded to text_length; 'prismatic': the released
    models' prompt through tokenizer.json, as long as it is.
    """
    text_length: int = 12
    state_names: tuple[str, ...] = ()
    """A token for the robot's state before the cognition token; empty: none (as released)."""
    state_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    binary_actions: tuple[str, ...] = ()
    """Actions that are 0 or 1: thresholded at 0.5 and never unnormalised."""
    action_scale: tuple[float, ...] = ()
    """Factor a column from the dataset's unit to the action's unit; empty: 1."""
    action_offset: tuple[float, ...] = ()
    """Added after the factor; empty: 0."""
    step_s: float = 0.05
    horizon: int = 16
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = ''
    """Key of the dataset statistics in use."""
    model_type: str = 'cogact'


@dataclass(frozen=True)
class OpenVlaConfig:
    """OpenVLA (arXiv 2406.09246): the decoder writes one action token a column."""

    vision: tuple[VisionConfig, ...]
    llama: dict
    """Keyword arguments of transformers' LlamaConfig."""
    image_size: int
    projector: str = 'fused-gelu-mlp'
    crop_area: float = 1.0
    """Share of the image's area, at its centre, that is used: 0.9 for LIBERO fine-tunes."""
    action_bins: int = 256
    token_end: int = 32000
    """One more than the largest action token's id: the vocabulary before its padding."""
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    action_scale: tuple[float, ...] = ()
    """Factor a column from the dataset's unit to the action's unit; empty: 1."""
    action_offset: tuple[float, ...] = ()
    """Added after the factor; empty: 0."""
    step_s: float = 0.2
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = ''
    """Key of the dataset statistics in use."""
    model_type: str = 'openvla'


@dataclass(frozen=True)
class Pi0Config:
    """pi0 (arXiv 2410.24164): a bidirectional prefix and a flow-matching action expert."""

    model: dict
    """Keyword arguments of transformers' PI0Config."""
    image_size: int = 224
    text_length: int = 48
    """Prompt tokens; a shorter prompt is padded and masked, a longer one is cut."""
    flow_steps: int = 10
    horizon: int = 50
    state_names: tuple[str, ...] = ()
    state_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    action_scale: tuple[float, ...] = ()
    """Factor a column from the dataset's unit to the action's unit; empty: 1."""
    action_offset: tuple[float, ...] = ()
    """Added after the factor; empty: 0."""
    step_s: float = 0.02
    cameras: tuple[str, ...] = ('camera',)
    """In the order of training; what a checkpoint has beyond these is left out, as if masked."""
    dataset: str = ''
    model_type: str = 'pi0'


_FAMILIES = {'cogact': CogActConfig, 'openvla': OpenVlaConfig, 'pi0': Pi0Config}


def save_config(config: CogActConfig | OpenVlaConfig | Pi0Config, directory: Path) -> None:
    """Write `config.json`."""
    text = json.dumps(asdict(config), indent=2)
    (Path(directory) / CONFIG_FILE).write_text(text + '\n', 'utf-8')


def load_config(directory: Path) -> CogActConfig | OpenVlaConfig | Pi0Config:
    """Read `config.json`. Raises UserError that names the file and the field."""
    path = Path(directory) / CONFIG_FILE
    data = read_json(path)
    if not data.keys().isdisjoint(('architectures', 'vla', 'input_features')):
        raise UserError(
            f'{path}: a released checkpoint, not yet a policy of this package; make '
            'one with: sqap_vla import'
        )
    family = _FAMILIES.get(data.get('model_type'))
    if family is None:
        raise UserError(
            f'{path}: model_type is {data.get("model_type")!r}, expected one of '
            f'{", ".join(map(repr, _FAMILIES))}'
        )
    try:
        if 'vision' in data:
            data['vision'] = tuple(build_config(VisionConfig, v) for v in data['vision'])
        if 'action_head' in data:
            data['action_head'] = build_config(ActionHeadConfig, data['action_head'])
        return build_config(family, data)
    except (KeyError, TypeError) as error:
        reason = f'{error.args[0]} is missing' if isinstance(error, KeyError) else str(error)
        raise UserError(f'{path}: {reason}') from None


def build_config(kind: type, data: dict):
    """Build a dataclass from plain data. Raises TypeError for an unknown or missing field."""
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise TypeError(f'unknown field {unknown[0]!r} in {kind.__name__}')
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
