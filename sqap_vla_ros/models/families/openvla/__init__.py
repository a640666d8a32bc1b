"""OpenVLA (arXiv 2406.09246): vision encoders and a Llama decoder that writes action tokens."""

from pathlib import Path
from typing import Any, TYPE_CHECKING

from sqap_vla_ros.models.families.openvla.config import OpenVlaConfig
from sqap_vla_ros.models.families.openvla.presets import PRESETS
from sqap_vla_ros.models.family import BenchmarkInputs, Family, Stage
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

if TYPE_CHECKING:
    from sqap_vla_ros.models.families.openvla.model import OpenVlaModel
    from sqap_vla_ros.models.importers.released import ImportOptions, Released


def _model(config: OpenVlaConfig) -> 'OpenVlaModel':
    from sqap_vla_ros.models.families.openvla.model import OpenVlaModel

    return OpenVlaModel(config)


def _make_policy(
    model: 'OpenVlaModel', directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> Policy:
    from sqap_vla_ros.models.families.openvla.policy import make_policy

    return make_policy(model, directory, description, runtime)


def _recognises(released: dict[str, Any]) -> bool:
    # This package's own configurations have the same model_type, and say 'vision'.
    return released.get('model_type') == 'openvla' and 'vision' not in released


def _open_released(folder: Path, options: 'ImportOptions') -> 'Released':
    from sqap_vla_ros.models.families.openvla.importer import open_openvla

    return open_openvla(folder, options)


def _stages(model: 'OpenVlaModel', inputs: BenchmarkInputs) -> list[Stage]:
    from sqap_vla_ros.models.families.openvla.stages import stages

    return stages(model, inputs)


FAMILY = Family(
    model_type='openvla',
    title='OpenVLA',
    config=OpenVlaConfig,
    model=_model,
    make_policy=_make_policy,
    recognises=_recognises,
    open_released=_open_released,
    stages=_stages,
    presets=PRESETS,
)
