"""pi0 (arXiv 2410.24164): a vision-language prefix and a flow-matching action expert."""

from pathlib import Path
from typing import Any, TYPE_CHECKING

from sqap_vla_ros.models.families.pi0.config import Pi0Config
from sqap_vla_ros.models.families.pi0.presets import PRESETS
from sqap_vla_ros.models.family import BenchmarkInputs, Family, Stage
from sqap_vla_ros.policy import Policy
from sqap_vla_ros.runtime_options import RuntimeOptions

if TYPE_CHECKING:
    from sqap_vla_ros.models.families.pi0.model import Pi0Model
    from sqap_vla_ros.models.importers.released import ImportOptions, Released


def _model(config: Pi0Config) -> 'Pi0Model':
    from sqap_vla_ros.models.families.pi0.model import Pi0Model

    return Pi0Model(config)


def _make_policy(
    model: 'Pi0Model', directory: Path, description: dict[str, Any], runtime: RuntimeOptions
) -> Policy:
    from sqap_vla_ros.models.families.pi0.policy import make_policy

    return make_policy(model, directory, description, runtime)


def _recognises(released: dict[str, Any]) -> bool:
    # This package's own configurations have the same model_type, and say 'model'.
    if 'model' in released:
        return False
    kind = released.get('type') or released.get('model_type')
    openpi = 'action_horizon' in released and 'paligemma_variant' in released
    return kind == 'pi0' or (kind is None and openpi)


def _open_released(folder: Path, options: 'ImportOptions') -> 'Released':
    from sqap_vla_ros.models.families.pi0.importer import open_pi0

    return open_pi0(folder, options)


def _stages(model: 'Pi0Model', inputs: BenchmarkInputs) -> list[Stage]:
    from sqap_vla_ros.models.families.pi0.stages import stages

    return stages(model, inputs)


FAMILY = Family(
    model_type='pi0',
    title='pi0',
    config=Pi0Config,
    model=_model,
    make_policy=_make_policy,
    recognises=_recognises,
    open_released=_open_released,
    stages=_stages,
    presets=PRESETS,
)
