"""A compressed copy is found again by content alone, and made by one process at a time."""

from concurrent.futures import ThreadPoolExecutor
import json
import os
from pathlib import Path
import shutil

import pytest

from sqap_vla_ros.compression.checkpoint import read_header
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models import compressed_copy as module
from sqap_vla_ros.models.compressed_copy import compressed_copy
from sqap_vla_ros.models.loading import is_compressed, load_policy

RECIPE = 'w8a8'


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'home'))
    return tmp_path / 'home'


@pytest.fixture
def policy(random_policy, tmp_path):
    return Path(shutil.copytree(random_policy, tmp_path / 'one' / 'policy'))


@pytest.fixture
def told():
    return []


def copies(home):
    return sorted((home / module.FOLDER).glob('[!.]*'))


def test_the_same_content_is_compressed_once(policy, tmp_path, told, home):
    first = compressed_copy(policy, RECIPE, told.append)
    assert is_compressed(first) and load_policy(first).describe()['recipe'] == RECIPE
    elsewhere = shutil.copytree(policy, tmp_path / 'two' / 'policy')
    assert compressed_copy(elsewhere, RECIPE, told.append) == first
    assert 'before' in told[-1] and copies(home) == [first]
    os.utime(policy / 'config.json', (1, 1))
    assert compressed_copy(policy, RECIPE, told.append) == first


def test_another_content_under_one_name_is_another_copy(policy, random_policy, told, home):
    copied = {compressed_copy(policy, RECIPE, told.append)}
    copied.add(compressed_copy(policy, 'w4a8', told.append))
    statistics = policy / 'dataset_statistics.json'
    data = json.loads(statistics.read_text('utf-8'))
    statistics.write_text(json.dumps(data, indent=3), 'utf-8')
    copied.add(compressed_copy(policy, RECIPE, told.append))
    with open(policy / 'model.safetensors', 'r+b') as file:
        file.seek(-4, os.SEEK_END)
        file.write(b'\0\0\0\0')
    copied.add(compressed_copy(policy, RECIPE, told.append))
    assert copies(home) == sorted(copied) and len(copied) == 4


def test_a_recipe_file_counts_by_its_content(policy, tmp_path, told):
    recipe = tmp_path / 'mine.yaml'
    recipe.write_text('name: mine\nquantization: {weight_bits: 8, activation_bits: 8}\n')
    first = compressed_copy(policy, str(recipe), told.append)
    recipe.write_text('name: mine\nquantization: {weight_bits: 4, activation_bits: 8}\n')
    assert compressed_copy(policy, str(recipe), told.append) != first


def test_a_compressed_policy_runs_as_it_is_and_another_recipe_is_told(policy, told):
    copy = compressed_copy(policy, RECIPE, told.append)
    told.clear()
    assert compressed_copy(copy, RECIPE, told.append) == copy and not told
    assert compressed_copy(copy, 'w4a8', told.append) == copy
    assert 'compressed already' in told[0] and 'w4a8 is not used' in told[0]


def test_a_damaged_copy_is_made_again(policy, told):
    copy = compressed_copy(policy, RECIPE, told.append)
    whole = read_header(copy)
    os.truncate(copy / 'model.safetensors', 100)
    assert compressed_copy(policy, RECIPE, told.append) == copy
    assert read_header(copy) == whole


def test_a_policy_that_changes_meanwhile_leaves_no_copy(policy, told, home, monkeypatch):
    compress = module.compress

    def compress_slowly(source, *rest):
        summary = compress(source, *rest)
        (source / 'config.json').write_bytes((source / 'config.json').read_bytes() + b'\n')
        return summary

    monkeypatch.setattr(module, 'compress', compress_slowly)
    with pytest.raises(UserError, match='its files changed while they were compressed'):
        compressed_copy(policy, RECIPE, told.append)
    assert not copies(home)


@pytest.mark.parametrize('what', ['nowhere', 'recipe', 'fifo', 'home'])
def test_what_cannot_be_compressed_is_one_line(policy, told, what, tmp_path, monkeypatch):
    recipe = RECIPE
    if what == 'nowhere':
        policy = tmp_path / 'nowhere'
    elif what == 'recipe':
        recipe = 'nonsense'
    elif what == 'fifo':
        (policy / 'model.safetensors').unlink()
        os.mkfifo(policy / 'model.safetensors')
    else:
        (tmp_path / 'file').write_text('')
        monkeypatch.setenv('ROS_HOME', str(tmp_path / 'file'))
    with pytest.raises(UserError) as failure:
        compressed_copy(policy, recipe, told.append)
    assert '\n' not in str(failure.value)


def test_of_several_that_want_one_copy_one_compresses(policy, home, told):
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: compressed_copy(policy, RECIPE, told.append), range(3)))
    assert copies(home) == [made[0]] and set(made) == {made[0]}
    assert sum('compressing' in line for line in told) == 1
    assert any('waiting' in line for line in told)
