"""Images and prompts as lerobot prepares them for pi0, where it differs from openpi."""

from dataclasses import asdict, replace
import json

import numpy as np
import pytest
import torch

from sqap_vla_ros.models.families.pi0.model import _flow_times
from sqap_vla_ros.models.families.pi0.preprocessing import (
    lerobot_letterbox,
    letterbox,
    Pi0Tokenizer,
)
from sqap_vla_ros.models.import_policy import open_released
from sqap_vla_ros.models.loading import load_policy

from support import tiny_pi0 as tiny
from support.released_families import write_released


def photo(*size):
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8))


def test_bars_are_black_on_each_side():
    wide, high = lerobot_letterbox(photo(30, 60), 56), lerobot_letterbox(photo(60, 30), 56)
    assert (wide[:, :14] == -1).all() and (wide[:, 42:] == -1).all()
    assert torch.equal(wide[:, 14:42] == -1, wide[:, 14:42] < -0.9999)
    assert (high[..., :14] == -1).all() and (high[..., 42:] == -1).all()


def test_bars_of_older_versions_are_an_option(tmp_path):
    given = photo(30, 60)
    usual, older = lerobot_letterbox(given, 56), lerobot_letterbox(given, 56, -3)
    assert (older[:, :14] == -3).all() and torch.equal(usual[:, 14:42], older[:, 14:42])
    options = replace(write_released('pi0', tmp_path / 'pi0'), letterbox_bars=-3.0)
    assert open_released(tmp_path / 'pi0', options).config.letterbox_bars == -3


def test_an_image_of_the_right_size_is_only_scaled():
    given = photo(56, 56)
    assert torch.equal(lerobot_letterbox(given, 56), given.permute(2, 0, 1).float() / 255 * 2 - 1)


def test_shrinking_is_not_antialiased_as_in_openpi():
    """A chequered picture stays chequered, where openpi's filter makes it grey."""
    given = torch.zeros(112, 112, 3, dtype=torch.uint8)
    given[::4] = given[1::4] = 255
    lerobot = lerobot_letterbox(given, 56)
    openpi = letterbox(given, 56).float() / 255 * 2 - 1
    assert lerobot.std() > 1.2 * openpi.std()


def test_a_row_of_pixels_is_no_error():
    assert lerobot_letterbox(photo(1, 500), 56).shape == (3, 56, 56)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tokenizer')
    tiny.write_tokenizer(folder)
    return lambda **options: Pi0Tokenizer.load(folder, **options)


def test_the_prompt_is_not_cleaned(tokenizer):
    lerobot, openpi = (tokenizer(length=48, library=name) for name in ('lerobot', 'openpi'))
    assert lerobot.encode('pick up') == openpi.encode('pick up') == [2, 301, 302, 108]
    assert lerobot.encode('pick up\n') == [2, 301, 302, 108]
    assert lerobot.encode('pick\nup') != openpi.encode('pick\nup')
    assert lerobot.encode(' pick up') == [2, 300, 301, 302, 108]


def test_a_long_prompt_is_cut_at_its_end(tokenizer):
    assert tokenizer(length=3, library='lerobot').encode('pick up red cup') == [2, 301, 302]


@pytest.mark.parametrize('library', ['lerobot', 'openpi'])
def test_a_prompt_that_is_cut_is_told(tokenizer, library):
    found = tokenizer(length=3, library=library)
    assert found.cut('pick up red cup') == (
        'instruction has 6 tokens, this policy reads 3; cut, with the newline that ends a '
        "prompt: 'red cup'; shorten it"
    )
    assert not tokenizer(length=6, library=library).cut('pick up red cup')
    assert '\n' not in found.cut('pick up red cup ' * 99) and len(found.cut('x ' * 999)) < 300


def test_flow_times_are_not_added_up():
    lerobot, step = _flow_times(10, torch.float32, 'lerobot')
    assert [time for time, _ in lerobot] == [float(np.float32(1 - i * 0.1)) for i in range(10)]
    openpi, other = _flow_times(10, torch.float32, 'openpi')
    assert step == other and lerobot != openpi


def test_a_policy_that_was_imported_earlier_is_loaded_as_openpi(imported, tmp_path):
    """Its configuration has no preprocessing, its statistics are mean and std alone."""
    old = tmp_path / 'old'
    old.mkdir()
    for path in imported['pi0'].iterdir():
        (old / path.name).symlink_to(path)
    policy = load_policy(old)
    config = asdict(policy.model.config)
    for field in ('preprocessing', 'letterbox_bars', 'bfloat16_tables', 'relative_actions'):
        del config[field]
    for part in ('state', 'action'):
        columns = config.pop(part)
        config[f'{part}_names'] = [column['name'] for column in columns]
        config[f'{part}_units'] = [column['unit'] for column in columns]
    stored = json.loads((old / 'dataset_statistics.json').read_text())
    for part in ('state', 'action'):
        entry = stored['lerobot'][part]
        stored['lerobot'][part] = {field: entry[field] for field in ('mean', 'std')}
    for name, content in (('config.json', config), ('dataset_statistics.json', stored)):
        (old / name).unlink()
        (old / name).write_text(json.dumps(content))
    found = load_policy(old)
    assert found.model.config.preprocessing == 'openpi'
    assert found.statistics.state.library == 'openpi' and found.statistics.state.epsilon == 1e-6
    assert policy.statistics.state.library == 'lerobot'
