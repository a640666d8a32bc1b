"""A family from outside the package does all that a family of the package does."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.inference.client import ThreadInference
from sqap_vla_ros.models import registry
from sqap_vla_ros.models.config import load_config, save_config
from sqap_vla_ros.models.import_policy import open_released
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.runtime_options import RuntimeOptions

from support import toy_family
from support.toy_family import TOY, toy_config


@pytest.fixture
def toy(monkeypatch):
    """Register the toy family for one test."""
    monkeypatch.setattr(registry, '_families', dict(registry._families))
    registry.register_family(TOY)


@pytest.fixture
def toy_policy(toy, tmp_path):
    """Import a released toy checkpoint by the command line."""
    toy_family.write_released(tmp_path / 'released')
    policy = tmp_path / 'policy'
    assert main(['import', str(tmp_path / 'released'), str(policy), '--step-s', '0.2']) == 0
    return policy


def test_a_configuration_is_saved_and_loaded(toy, tmp_path):
    save_config(toy_config(step_s=0.25), tmp_path)
    assert load_config(tmp_path) == toy_config(step_s=0.25)
    text = (tmp_path / 'config.json').read_text('utf-8')
    (tmp_path / 'config.json').write_text(text.replace('"scales"', '"scale"'), 'utf-8')
    with pytest.raises(UserError, match="unknown field 'scale' in EncoderConfig"):
        load_config(tmp_path)


def test_a_released_checkpoint_is_imported_and_runs(toy_policy, tmp_path, capsys):
    assert load_config(toy_policy).step_s == 0.2
    policy = load_policy(toy_policy)
    answers = [
        policy.predict(Observation({'camera': toy_family.picture(i)}, 'go')) for i in (0, 1)
    ]
    assert answers[0].tokens_kept == answers[0].tokens == 64
    assert (answers[0].chunk.values != answers[1].chunk.values).any()
    assert main(['check', str(toy_policy)]) in (0, 1)
    assert 'ok   image' in capsys.readouterr().out
    with pytest.raises(UserError, match='sqap_vla import'):
        load_policy(tmp_path / 'released')


def test_it_is_compressed_and_pruned(toy_policy, tmp_path):
    output = tmp_path / 'compressed'
    assert main(['compress', str(toy_policy), str(output), '--recipe', 'sqap_w4a4_prune40']) == 0
    client = ThreadInference(output)
    client.start()
    observation = Observation({'camera': toy_family.picture(0)}, 'go')
    client.infer(observation)
    inference = client.infer(observation)
    assert inference.chunk.finite and inference.tokens_kept == round(0.6 * 64)


def test_the_benchmark_measures_it(toy, tmp_path):
    path = tmp_path / 'out.json'
    arguments = ['--preset', 'toy', '--variants', 'fp32', 'w4a4_prune40', '--rounds', '2']
    assert main(['bench', *arguments, '--json', str(path)]) == 0
    for variant in json.loads(path.read_text('utf-8'))['variants']:
        assert set(variant['stages_ms']) == {'vision', 'decoder', 'action_head'}


def test_messages_name_the_families_that_are_registered(toy, tmp_path):
    assert registry.titles() == 'CogACT, OpenVLA, pi0 or Toy'
    with pytest.raises(UserError, match='released CogACT, OpenVLA, pi0 or Toy checkpoint'):
        open_released(tmp_path / 'nowhere')
    with pytest.raises(UserError, match="'abacus', expected one of 'cogact', .*'toy'"):
        registry.family_of('abacus')


def test_a_model_type_belongs_to_one_family(toy):
    registry.register_family(TOY)  # again: nothing happens
    other = type(TOY)(**{**vars(TOY), 'title': 'Other'})
    with pytest.raises(ValueError, match="'toy' is that of Toy already"):
        registry.register_family(other)


ENTRY_POINT = """[sqap_vla_ros.families]
toy = support.toy_family:TOY
broken = no_such_module:FAMILY
"""


def test_families_of_other_packages_are_found_by_every_process(toy_policy, tmp_path):
    installed = tmp_path / 'site' / 'toy_family-1.0.dist-info'
    installed.mkdir(parents=True)
    (installed / 'METADATA').write_text('Metadata-Version: 2.1\nName: toy-family\nVersion: 1.0\n')
    (installed / 'entry_points.txt').write_text(ENTRY_POINT)
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(installed.parent), str(tests), os.environ.get('PYTHONPATH', '')])

    def check(policy):
        return subprocess.run(
            [sys.executable, '-m', 'sqap_vla_ros.cli', 'check', str(policy)],
            env=dict(os.environ, PYTHONPATH=path),
            capture_output=True,
            text=True,
            check=False,
        )

    done = check(toy_policy)
    assert 'ok   image' in done.stdout, done.stderr
    config = toy_policy / 'config.json'
    config.write_text(config.read_text().replace('"toy"', '"broken"'))
    done = check(toy_policy)
    assert done.returncode == 2
    assert "family 'broken' of toy-family cannot be loaded: No module named" in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('device', ['tpu', 'mps', 'cuda:x', ''])
def test_a_device_that_cannot_run_policies_is_refused_in_one_line(toy_policy, device):
    with pytest.raises(UserError, match=f"device is '{device}', expected 'cpu', 'cuda' or"):
        load_policy(toy_policy, runtime=RuntimeOptions(device=device))
