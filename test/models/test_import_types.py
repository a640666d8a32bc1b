"""Weights stored in several types: a part of a model computes in one, and no value is lost."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.import_policy import import_policy
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Observation

from support import tiny_pi0, tiny_released
from support.broken_checkpoint import change_pt, change_tensors, write_single


def stored(policy):
    return load_file(policy / 'model.safetensors')


def predict(policy):
    loaded = load_policy(policy)
    state = tiny_pi0.state() if loaded.spec.state_names else None
    images = {name: tiny_released.image() for name in loaded.spec.cameras}
    return loaded.predict(Observation(images, 'pick up the red cup', state)).chunk.values


def in_bfloat16(chosen):
    def edit(tensors):
        return {n: t.bfloat16() if chosen(n) else t for n, t in tensors.items()}

    return edit


KEPT_WIDE = {
    'norms': lambda name: 'norm' not in name,
    'vision': lambda name: not name.startswith('vision_backbone') and 'vision_tower' not in name,
    'projections of actions': lambda name: 'paligemma' in name,
}


@pytest.mark.parametrize(
    'family, wide',
    [
        ('openvla', 'norms'),
        ('openvla', 'vision'),
        ('pi0', 'norms'),
        ('pi0', 'vision'),
        ('pi0', 'projections of actions'),
    ],
)
def test_mixed_types_are_written_in_the_widest(tmp_path, family, wide):
    options = write_single(family, tmp_path / 'source')
    change_tensors(tmp_path / 'source', in_bfloat16(KEPT_WIDE[wide]))
    released = import_policy(tmp_path / 'source', tmp_path / 'policy', options)
    written = stored(tmp_path / 'policy')
    for part in (True, False):
        types = {t.dtype for n, t in written.items() if n.startswith(released.own_types) == part}
        assert len(types) <= 1
    for name, tensor in written.items():
        assert torch.equal(tensor, released.sources[name].read(released.reader).to(tensor.dtype))
    assert np.isfinite(predict(tmp_path / 'policy')).all()


def test_action_head_may_be_wider(tmp_path):
    options = write_single('cogact', tmp_path / 'source')

    def edit(groups):
        for group in ('vision_backbone', 'projector', 'llm_backbone'):
            groups[group] = {n: t.bfloat16() for n, t in groups[group].items()}

    change_pt(tmp_path / 'source', 'checkpoints/tiny.pt', edit)
    import_policy(tmp_path / 'source', tmp_path / 'policy', options)
    for name, tensor in stored(tmp_path / 'policy').items():
        head = name.startswith('action_head.')
        assert tensor.dtype == (torch.float32 if head else torch.bfloat16), name
    assert np.isfinite(predict(tmp_path / 'policy')).all()


def test_values_that_the_asked_type_cannot_hold_are_refused(tmp_path):
    options = write_single('openvla', tmp_path / 'source')
    change_tensors(
        tmp_path / 'source', lambda t: t.update({'projector.fc1.bias': torch.full((512,), 1e5)})
    )
    with pytest.raises(UserError, match='projector.fc1.bias .* too large for float16'):
        import_policy(tmp_path / 'source', tmp_path / 'out', replace(options, dtype='float16'))
    assert not (tmp_path / 'out').exists()


def test_float64_is_written_in_the_type_that_is_asked_for(tmp_path):
    options = write_single('openvla', tmp_path / 'source')
    change_tensors(tmp_path / 'source', lambda t: {n: v.double() for n, v in t.items()})
    import_policy(tmp_path / 'source', tmp_path / 'policy', replace(options, dtype='float32'))
    assert {t.dtype for t in stored(tmp_path / 'policy').values()} == {torch.float32}


@pytest.mark.parametrize('kind', [torch.int8, torch.float64, torch.float8_e4m3fn, torch.bool])
def test_policy_with_weights_of_another_type_is_refused(policy_directory, kind):
    def edit(tensors):
        tensors['projector.0.bias'] = tensors['projector.0.bias'].to(kind)

    change_tensors(policy_directory, edit)
    with pytest.raises(UserError, match=f'projector.0.bias is {str(kind)[6:]}; .* import'):
        load_policy(policy_directory)
