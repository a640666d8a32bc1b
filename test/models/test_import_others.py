"""What is no checkpoint of a supported model is refused by its name."""

import json

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import import_policy

OTHERS = {
    'pi05': 'pi0.5',
    'smolvla': 'SmolVLA',
    'pi0_fast': 'pi0-FAST',
    'gr00t_n1_5': 'GR00T',
    'act': 'ACT has no language decoder',
    'diffusion': 'Diffusion Policy has no language decoder',
}


@pytest.mark.parametrize('kind', OTHERS)
@pytest.mark.parametrize('field', ['type', 'model_type'])
def test_other_models_are_refused_by_their_name(tmp_path, kind, field):
    folder = tmp_path / 'other'
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps({field: kind}))
    with pytest.raises(UserError, match='is not supported') as caught:
        import_policy(folder, tmp_path / 'out')
    assert OTHERS[kind] in str(caught.value)


def test_policy_of_this_package_is_not_imported_again(imported, tmp_path):
    with pytest.raises(UserError, match='a policy of this package already'):
        import_policy(imported['openvla'], tmp_path / 'out')
