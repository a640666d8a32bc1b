"""Tiny released checkpoints of every family, imported once a session."""
from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
import tiny_pi0  # noqa: E402, I100
import tiny_released  # noqa: E402

from sqap_vla_ros.models.importing import import_policy  # noqa: E402
from sqap_vla_ros.models.released import ImportOptions  # noqa: E402


def write_released(family: str, folder: Path) -> ImportOptions:
    """Write a tiny released checkpoint and return the options to import it with."""
    if family == 'openvla':
        tiny_released.write_openvla(folder)
        return ImportOptions(step_s=1.0)
    if family == 'pi0':
        tiny_pi0.write_pi0(folder)
        return ImportOptions(step_s=0.02)
    tiny_released.write_cogact(folder)
    tiny_released.write_llama_tokenizer(folder)
    return ImportOptions(step_s=1.0)


@pytest.fixture(scope='session')
def released(tmp_path_factory):
    """Family name to (folder of the released checkpoint, import options)."""
    root = tmp_path_factory.mktemp('released')
    return {family: (root / family, write_released(family, root / family))
            for family in ('openvla', 'cogact', 'pi0')}


@pytest.fixture(scope='session')
def imported(released, tmp_path_factory):
    """Family name to policy directory."""
    root = tmp_path_factory.mktemp('imported')
    for family, (folder, options) in released.items():
        import_policy(folder, root / family, options)
    return {family: root / family for family in released}
