"""Images and numbers between the robot's units and the released models'."""
from hypothesis import given, settings, strategies
import numpy as np
import pytest
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.checkpoint_reader import SafetensorsReader
from sqap_vla_ros.models.pi0_preprocessing import letterbox
from sqap_vla_ros.models.preprocessing import centre_crop, squash
from sqap_vla_ros.models.safetensors_writer import write_safetensors


def test_crop_samples_where_tensorflow_does():
    """A ramp stays a ramp: column j comes from x1 (W - 1) + j (x2 - x1), x2 - x1 = sqrt(area)."""
    ramp = torch.arange(0, 224).to(torch.uint8).expand(3, 224, 224).contiguous()
    reach = 0.9 ** 0.5
    expected = (1 - reach) / 2 * 223 + np.arange(224) * reach
    cropped = centre_crop(ramp, 0.9)
    assert np.abs(cropped[0, 100].numpy() - expected).max() <= 0.51
    assert torch.equal(centre_crop(ramp, 1.0), ramp)


@settings(max_examples=25, deadline=None)
@given(strategies.integers(1, 300), strategies.integers(1, 300))
def test_images_of_any_shape_become_square(height, width):
    image = np.full((height, width, 3), 200, np.uint8)
    assert squash(image, 56).shape == (3, 56, 56)
    boxed = letterbox(image, 56)
    assert boxed.shape == (3, 56, 56) and boxed.dtype == torch.uint8
    assert set(boxed.unique().tolist()) <= {0, 200}
    filled = (boxed[0] == 200).nonzero()
    low, high = filled.min(0).values, filled.max(0).values
    assert ((low - (55 - high)).abs() <= 1).all(), 'not centred'


@given(strategies.lists(strategies.sampled_from([torch.float32, torch.bfloat16, torch.int8]),
                        min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_streamed_files_read_back(tmp_path_factory, kinds):
    folder = tmp_path_factory.mktemp('streamed')
    tensors = {f't{i}': torch.arange(6).view(2, 3).to(kind) for i, kind in enumerate(kinds)}
    write_safetensors(folder / 'model.safetensors',
                      {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()},
                      tensors.__getitem__, {'format': 'pt'})
    reader = SafetensorsReader(folder)
    assert reader.names() == set(tensors)
    for name, tensor in tensors.items():
        assert reader.shape(name) == (2, 3)
        assert torch.equal(reader.tensor(name), tensor)
    with pytest.raises(UserError, match='missing'):
        reader.tensor('other')
