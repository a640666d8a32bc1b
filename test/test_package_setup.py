"""Set-up of the environment without ROS 2: what it asks for, and what it skips."""

import sys

import pytest


@pytest.fixture
def wheels_build(repository, monkeypatch):
    """Make the modules of wheels_build/ importable by their names."""
    monkeypatch.syspath_prepend(str(repository / 'wheels_build'))


@pytest.fixture
def setup_venv(wheels_build):
    """Return the module under test."""
    import setup_venv

    return setup_venv


def test_without_root_one_line_names_the_packages_and_nothing_runs(wheels_build, monkeypatch):
    import debian_packages

    monkeypatch.setattr(debian_packages.os, 'geteuid', lambda: 1000)
    ran = []
    line = debian_packages.install_packages(
        ['g++', 'libegl1'], lambda command, **_: ran.append(command)
    )
    assert '\n' not in line and 'apt-get install' in line and line.endswith('g++ libegl1')
    assert not ran


def test_as_root_packages_are_installed_after_an_update(wheels_build, monkeypatch):
    import debian_packages

    monkeypatch.setattr(debian_packages.os, 'geteuid', lambda: 0)
    monkeypatch.setattr(debian_packages.shutil, 'which', lambda name: f'/usr/bin/{name}')
    ran = []
    assert (
        debian_packages.install_packages(['libegl1'], lambda command, **_: ran.append(command))
        is None
    )
    assert [command[1] for command in ran] == ['update', 'install']
    assert ran[1][-1] == 'libegl1'


def test_a_missing_compiler_is_a_missing_package(wheels_build, monkeypatch):
    import debian_packages

    monkeypatch.setattr(debian_packages.shutil, 'which', lambda name: None)
    assert debian_packages.missing_packages()[0] == 'g++'


def test_steps_that_are_current_run_nothing(setup_venv, tmp_path, monkeypatch):
    setup = setup_venv.Setup(tmp_path / 'venv', '')
    monkeypatch.setattr(setup, 'pip', lambda *arguments: calls.append(arguments))
    calls = []
    setup.install_requirements()
    assert len(calls) == 2 and any('torch.txt' in argument for argument in calls[0])
    setup.install_requirements()
    assert len(calls) == 2


def test_a_failed_step_is_repeated(setup_venv, tmp_path, monkeypatch):
    setup = setup_venv.Setup(tmp_path / 'venv', '')

    def fail(*arguments):
        calls.append(arguments)
        raise setup_venv.SetupError('no network')

    monkeypatch.setattr(setup, 'pip', fail)
    calls = []
    for _ in range(2):
        with pytest.raises(setup_venv.SetupError):
            setup.install_requirements()
    assert len(calls) == 2


def test_another_numpy_needs_a_constraints_file(setup_venv, tmp_path):
    with pytest.raises(setup_venv.SetupError, match='NUMPY=0.1: there is no'):
        setup_venv.Setup(tmp_path / 'venv', '0.1').install_requirements()


def test_a_failing_command_is_one_line_and_its_output_is_kept(setup_venv, tmp_path, capfd):
    setup = setup_venv.Setup(tmp_path / 'venv', '')
    with pytest.raises(setup_venv.SetupError) as raised:
        setup.run([sys.executable, '-c', 'print("reason"); raise SystemExit(3)'])
    assert '\n' not in str(raised.value) and str(setup.log) in str(raised.value)
    assert 'reason' in capfd.readouterr().err
    assert 'reason' in setup.log.read_text()


def test_fingerprint_follows_names_and_contents(setup_venv, tmp_path, monkeypatch):
    monkeypatch.setattr(setup_venv, 'SOURCE', tmp_path)
    first = tmp_path / 'a.msg'
    first.write_text('uint8 x')
    before = setup_venv.fingerprint_of([first])
    assert setup_venv.fingerprint_of([first]) == before
    first.write_text('uint8 y')
    changed = setup_venv.fingerprint_of([first])
    second = first.rename(tmp_path / 'b.msg')
    assert len({before, changed, setup_venv.fingerprint_of([second])}) == 3
