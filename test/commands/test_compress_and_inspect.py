"""`sqap_vla compress` and `sqap_vla inspect`."""

import pytest

from sqap_vla_ros.cli import main

RECIPE = """
name: mine
quantization: {weight_bits: 4, activation_bits: 8, weight_group: 16}
pruning: {ratio: 0.4}
"""


@pytest.fixture
def recipe(tmp_path):
    """Write a recipe file of the user's."""
    path = tmp_path / 'mine.yaml'
    path.write_text(RECIPE, 'utf-8')
    return path


def test_compress_then_inspect(policy_directory, tmp_path, recipe, capsys):
    output = tmp_path / 'out'
    assert main(['compress', str(policy_directory), str(output), '--recipe', str(recipe)]) == 0
    assert '21 layers' in capsys.readouterr().out
    assert main(['inspect', str(output)]) == 0
    printed = capsys.readouterr().out
    for word in (
        'decoder.llama.layers.2.mlp.down_proj',
        'W4A8',
        'Hadamard',
        'of fp16',
        'of fp32',
        'verified',
        'name: mine',
        'weight_group: 16',
    ):
        assert word in printed


def test_compressing_again_replaces_the_earlier_result(policy_directory, tmp_path, recipe):
    output = tmp_path / 'out'
    arguments = ['compress', str(policy_directory), str(output), '--recipe']
    assert main([*arguments, 'w4a4']) == 0
    before = (output / 'model.safetensors').read_bytes()
    assert main([*arguments, str(recipe)]) == 0
    assert (output / 'model.safetensors').read_bytes() != before
    assert not list(tmp_path.glob('.out.*'))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['compress', '{policy}', '{foreign}'], ['foreign', 'not empty']),
        (['compress', '{policy}', '{file}'], ['is a file']),
        (['compress', '{policy}', '{policy}'], ['float', 'not empty']),
        (['compress', '{foreign}', '{out}'], ['config.json', 'no such file']),
        (['compress', '{policy}', '{out}', '--recipe', 'w5a5'], ['w5a5', 'sqap_w4a4_prune40']),
        (
            ['compress', '{policy}', '{out}', '--recipe', 'none.yaml'],
            ['none.yaml', 'no such file'],
        ),
        (['inspect', '{policy}'], ['not a compressed checkpoint']),
        (['inspect', '{out}'], ['config.json', 'no such file']),
    ],
)
def test_mistakes_get_one_line(policy_directory, tmp_path, capsys, arguments, words):
    foreign, file = tmp_path / 'foreign', tmp_path / 'file'
    foreign.mkdir()
    (foreign / 'thesis.tex').write_text('chapter one', 'utf-8')
    file.write_text('', 'utf-8')
    places = {
        'policy': policy_directory,
        'foreign': foreign,
        'file': file,
        'out': tmp_path / 'out',
    }
    assert main([word.format(**places) for word in arguments]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1
    assert all(word in printed[0] for word in words)
    assert (foreign / 'thesis.tex').exists()


def test_a_compressed_policy_is_not_compressed_again(policy_directory, tmp_path, capsys):
    assert main(['compress', str(policy_directory), str(tmp_path / 'out')]) == 0
    assert main(['compress', str(tmp_path / 'out'), str(tmp_path / 'again')]) == 2
    assert 'compressed already' in capsys.readouterr().err
