"""Configuration of a CogACT-style model, as stored in a policy directory's `config.json`."""
from dataclasses import asdict, dataclass, field, fields
import json
from pathlib import Path

from sqap_vla_ros.errors import UserError

CONFIG_FILE = 'config.json'


@dataclass(frozen=True)
class VisionConfig:
    """One vision encoder; its features and those of further encoders are concatenated."""

    kind: str = 'siglip'
    """'siglip': transformers' SiglipVisionModel without its pooling head."""
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
    """'words': vocabulary.json, one id a word, padded to text_length."""
    text_length: int = 12
    state_names: tuple[str, ...] = ()
    """A token for the robot's state before the cognition token; empty: none (as released)."""
    state_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    binary_actions: tuple[str, ...] = ()
    """Actions that are 0 or 1: thresholded at 0.5 and never unnormalised."""
    step_s: float = 0.05
    horizon: int = 16
    cameras: tuple[str, ...] = ('camera',)
    dataset: str = ''
    """Key of the dataset statistics in use."""
    model_type: str = 'cogact'


def save_config(config: CogActConfig, directory: Path):
    """Write `config.json`."""
    text = json.dumps(asdict(config), indent=2)
    (Path(directory) / CONFIG_FILE).write_text(text + '\n', 'utf-8')


def load_config(directory: Path) -> CogActConfig:
    """Read `config.json`. Raises UserError that names the file and the field."""
    data = read_json(Path(directory) / CONFIG_FILE)
    if data.get('model_type') != 'cogact':
        raise UserError(f'{Path(directory) / CONFIG_FILE}: model_type is '
                        f'{data.get("model_type")!r}, expected \'cogact\'')
    try:
        data['vision'] = tuple(_build(VisionConfig, v) for v in data['vision'])
        data['action_head'] = _build(ActionHeadConfig, data['action_head'])
        return _build(CogActConfig, data)
    except (KeyError, TypeError) as error:
        reason = f'{error.args[0]} is missing' if isinstance(error, KeyError) else str(error)
        raise UserError(f'{Path(directory) / CONFIG_FILE}: {reason}') from None


def read_json(path: Path) -> dict:
    """Read a JSON object. Raises UserError that names the file."""
    try:
        data = json.loads(Path(path).read_text('utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; expected a policy directory with it') from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from None
    if not isinstance(data, dict):
        raise UserError(f'{path}: expected a JSON object')
    return data


def _build(kind, data):
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise TypeError(f'unknown field {unknown[0]!r} in {kind.__name__}')
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
