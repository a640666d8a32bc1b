"""
What the package knows of a model family; each folder in `families/` declares one.

Another package declares a family by an entry point, here in its `pyproject.toml`:

    [project.entry-points."sqap_vla_ros.families"]
    toy = "toy_package.family:FAMILY"

The name is the `model_type` of the family, the object a `Family`. Every process reads the entry
points: the node, its inference worker and the command line. A call of `register_family` reaches
only the process that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TYPE_CHECKING

from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

if TYPE_CHECKING:  # these modules import torch, which takes seconds
    import torch

    from sqap_vla_ros.models.importers.released import ImportOptions, Released
    from sqap_vla_ros.models.layers.pruned_layers import PruningPoint
    from sqap_vla_ros.models.vla_model import VlaModel

CONFIG_FILE = 'config.json'
"""Of a policy directory: the family's `model_type` and the fields of its configuration."""

Stage = tuple[str, Callable[[Any], Any]]
"""Name, and a function from the result of the previous stage to its own."""


@dataclass(frozen=True)
class Preset:
    """A model of real shape for the benchmark; its weights are random."""

    name: str
    summary: str
    config: Any
    """Configuration of a model family."""
    text_tokens: int = 0
    """Prompt tokens after the visual tokens."""
    visual_tokens: int = 256
    """Visual tokens before pruning, over all cameras."""


@dataclass(frozen=True)
class BenchmarkInputs:
    """What a family builds its benchmark stages from."""

    text: torch.Tensor
    """int64 [1, text_tokens], random token ids."""
    visual_tokens: int
    """Before pruning, over all cameras."""
    noise: Callable[..., torch.Tensor]
    """Takes a shape; returns a standard normal tensor in the model's type, on its device."""
    pruned: Callable[[Callable[[PruningPoint | None], Any]], Any]
    """Calls a function with the pruning point of this inference, or None; returns its result."""


@dataclass(frozen=True)
class Family:
    """
    A model family: how to build, load, import and measure its policies.

    Functions import what they need when they are called, so that listing the families is cheap.
    """

    model_type: str
    """`model_type` in `config.json`, and the default of the configuration's field."""
    title: str
    """Name for messages and model cards, for example 'OpenVLA'."""
    config: type
    """
    Frozen dataclass of plain data, tuples and further dataclasses, JSON-ready.

    A file must have every field: defaults serve code alone. A field that a family adds later takes
    `field(default=..., metadata={'optional': True})`, so that earlier files still load.

    Fields that are read outside the family: `model_type`, `dataset`, `step_s`, `cameras`,
    `action_scale`, `action_offset`.
    """
    model: Callable[[Any], VlaModel]
    """Builds the module tree of a configuration; weights are random, or on the meta device."""
    make_policy: Callable[[Any, Path, dict[str, Any], RuntimeOptions], Policy]
    """
    Puts a loaded model behind the policy interface.

    Takes the model, the policy directory (with tokenizer and statistics), the description that
    `Policy.describe` returns, and the runtime options. Raises UserError.
    """
    recognises: Callable[[dict[str, Any]], bool] = lambda released: False
    """
    Whether the `config.json` of a released checkpoint is of this family.

    Must be false for a configuration that this package has written.
    """
    open_released: Callable[[Path, ImportOptions], Released] | None = None
    """Opens the folder of a released checkpoint; None: checkpoints cannot be imported."""
    stages: Callable[[Any, BenchmarkInputs], list[Stage]] | None = None
    """Splits one inference of a model into stages for the benchmark; None: not measured."""
    presets: tuple[Preset, ...] = ()
    """Shapes that `sqap_vla bench` offers."""
