"""CogACT (arXiv 2411.19650): vision encoders, a Llama decoder and a diffusion action head."""

from pathlib import Path
from typing import Any, TYPE_CHECKING

from sqap_vla_ros.models.families.cogact.config import CogActConfig
from sqap_vla_ros.models.families.cogact.presets import PRESETS
from sqap_vla_ros.models.family import BenchmarkInputs, Family, Stage
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

if TYPE_CHECKING:
    from sqap_vla_ros.models.families.cogact.model import CogActModel
    from sqap_vla_ros.models.importers.released import ImportOptions, Released


def _model(config: CogActConfig) -> 'CogActModel':
    from sqap_vla_ros.models.families.cogact.model import CogActModel

    return CogActModel(config)


def _make_policy(
    model: 'CogActModel', directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> Policy:
    from sqap_vla_ros.models.families.cogact.policy import make_policy

    return make_policy(model, directory, description, runtime)


def _recognises(released: dict[str, Any]) -> bool:
    return 'vla' in released


def _open_released(folder: Path, options: 'ImportOptions') -> 'Released':
    from sqap_vla_ros.models.families.cogact.importer import open_cogact

    return open_cogact(folder, options)


def _stages(model: 'CogActModel', inputs: BenchmarkInputs) -> list[Stage]:
    from sqap_vla_ros.models.families.cogact.stages import stages

    return stages(model, inputs)


FAMILY = Family(
    model_type='cogact',
    title='CogACT',
    config=CogActConfig,
    model=_model,
    make_policy=_make_policy,
    recognises=_recognises,
    open_released=_open_released,
    stages=_stages,
    presets=PRESETS,
)
