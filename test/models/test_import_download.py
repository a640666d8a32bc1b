"""A hub is asked only when the user says so (here: a stand-in for the hub)."""

import os

import huggingface_hub
import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.models.loading import load_policy

from support.released_families import write_released

MEANING = '--columns', 'bridge_orig'


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Offer one repository; records what is asked for."""
    write_released('openvla', tmp_path / 'cache')
    asked = []

    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)

    def snapshot_download(repository, **_):
        assert not os.environ.get('HF_HUB_OFFLINE'), 'the real one would refuse'
        asked.append(repository)
        if repository != 'someone/openvla':
            raise OSError('404 Client Error:\nRepository Not Found')
        return str(tmp_path / 'cache')

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
    return asked


def test_without_the_flag_nothing_is_asked_of_the_hub(hub, tmp_path, capsys):
    assert main(['import', 'someone/openvla', str(tmp_path / 'out')]) != 0
    assert not hub and 'no such folder' in capsys.readouterr().err
    assert os.environ['HF_HUB_OFFLINE'] == '1'


def test_with_the_flag_a_repository_is_fetched_and_imported(hub, tmp_path):
    out = tmp_path / 'out'
    assert main(['import', 'someone/openvla', str(out), '--allow-download', *MEANING]) == 0
    assert hub == ['someone/openvla'] and load_policy(out).spec.cameras


def test_a_folder_is_taken_as_it_is_even_with_the_flag(hub, tmp_path):
    out = tmp_path / 'out'
    assert main(['import', str(tmp_path / 'cache'), str(out), '--allow-download', *MEANING]) == 0
    assert not hub


def test_a_failed_download_is_told_in_one_line(hub, tmp_path, capsys):
    assert main(['import', 'someone/else', str(tmp_path / 'out'), '--allow-download']) != 0
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'someone/else: cannot be downloaded' in error and 'Repository Not Found' in error
