"""Images and numbers between the robot's units and the released models'."""

from hypothesis import given, settings, strategies
import numpy as np
import pytest
import torch

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.families.pi0.preprocessing import letterbox
from sqap_vla_ros.models.importers.checkpoint_reader import SafetensorsReader
from sqap_vla_ros.models.importers.safetensors_writer import write_safetensors
from sqap_vla_ros.models.preprocessing.images import centre_crop, resize_like_pillow, squash
from sqap_vla_ros.models.preprocessing.pillow_resize import pillow_resize


def test_crop_samples_where_tensorflow_does():
    """A ramp stays a ramp: column j comes from x1 (W - 1) + j (x2 - x1), x2 - x1 = sqrt(area)."""
    ramp = torch.arange(0, 224).to(torch.uint8).expand(3, 224, 224).contiguous()
    reach = 0.9**0.5
    expected = (1 - reach) / 2 * 223 + np.arange(224) * reach
    cropped = centre_crop(ramp, 0.9)
    # Rounded like TensorFlow's convert_image_dtype: 255.5 v without its fraction, v in [0, 1].
    assert np.array_equal(cropped[0, 100].numpy(), np.floor(expected * 255.5 / 255))
    assert torch.equal(centre_crop(ramp, 1.0), ramp)


def test_crop_of_noise_is_tensorflows_formula_in_float32():
    image = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    reach = np.sqrt(np.float32(0.9))
    position = (np.float32(1) - reach) / 2 * 55 + np.arange(56, dtype=np.float32) * reach
    low, high = np.floor(position).astype(int), np.ceil(position).astype(int)
    share = position - low
    values = image.astype(np.float32) / 255
    values = values[:, low] * (1 - share[:, None]) + values[:, high] * share[:, None]
    values = values[low] * (1 - share[:, None, None]) + values[high] * share[:, None, None]
    cropped = centre_crop(torch.from_numpy(image).permute(2, 0, 1), 0.9)
    difference = cropped.permute(1, 2, 0).numpy() - np.floor(values * 255.5)
    assert (difference != 0).mean() < 1e-3 and np.abs(difference).max() <= 1


@settings(max_examples=25, deadline=None)
@given(strategies.integers(1, 300), strategies.integers(1, 300))
def test_images_of_any_shape_become_square(height, width):
    image = torch.full((height, width, 3), 200, dtype=torch.uint8)
    assert squash(image, 56).shape == (3, 56, 56)
    boxed = letterbox(image, 56)
    assert boxed.shape == (3, 56, 56) and boxed.dtype == torch.uint8
    assert set(boxed.unique().tolist()) <= {0, 200}
    filled = (boxed[0] == 200).nonzero()
    low, high = filled.min(0).values, filled.max(0).values
    assert ((low - (55 - high)).abs() <= 1).all(), 'not centred'


@pytest.mark.parametrize('harsh', [False, True])
@pytest.mark.parametrize('kernel', ['bicubic', 'bilinear'])
@pytest.mark.parametrize(
    'shape, size',
    [
        ((480, 640), (224, 224)),
        ((240, 320), (224, 224)),
        ((720, 1280), (224, 224)),
        ((640, 480), (224, 224)),
        ((256, 256), (224, 224)),
        ((224, 224), (224, 224)),
        ((100, 120), (224, 224)),
        ((480, 640), (168, 224)),
        ((720, 1280), (126, 224)),
    ],
)
def test_images_resized_on_a_device_are_those_of_pillow(shape, size, kernel, harsh):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if harsh:  # overshoots are clipped between the passes too
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    image = torch.from_numpy(image)
    assert torch.equal(
        pillow_resize(image, *size, kernel), resize_like_pillow(image, *size, kernel)
    )


@given(
    strategies.lists(
        strategies.sampled_from([torch.float32, torch.bfloat16, torch.int8]),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=20, deadline=None)
def test_streamed_files_read_back(tmp_path_factory, kinds):
    folder = tmp_path_factory.mktemp('streamed')
    tensors = {f't{i}': torch.arange(6).view(2, 3).to(kind) for i, kind in enumerate(kinds)}
    write_safetensors(
        folder / 'model.safetensors',
        {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()},
        tensors.__getitem__,
        {'format': 'pt'},
    )
    reader = SafetensorsReader(folder)
    assert reader.names() == set(tensors)
    for name, tensor in tensors.items():
        assert reader.shape(name) == (2, 3)
        assert torch.equal(reader.tensor(name), tensor)
    with pytest.raises(UserError, match='missing'):
        reader.tensor('other')
