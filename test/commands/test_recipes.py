"""`sqap_vla recipes`."""

from sqap_vla_ros.cli import main
from sqap_vla_ros.compression.recipe_files import package_recipes


def test_one_line_for_each_shown_recipe(capsys):
    assert main(['recipes']) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = package_recipes()
    assert len(lines) == len(shown) <= 12
    for line, recipe in zip(lines, shown):
        assert line.split()[0] == recipe.name
        assert recipe.what in line and line.endswith(recipe.when)
        assert len(line) <= 140
    assert any(line.startswith('sqap_w4a4_prune40 ') and 'default' in line for line in lines)


def test_all_lists_the_recipes_of_experiments_in_a_second_block(capsys):
    assert main(['recipes', '--all']) == 0
    shown, experiments = capsys.readouterr().out.split('\n\n')
    assert len(shown.splitlines()) == len(package_recipes())
    heading, *lines = experiments.splitlines()
    assert heading.startswith('experiments:')
    assert [line.split()[0] for line in lines] == [
        recipe.name for recipe in package_recipes(experiments=True)
    ]
    assert any('paper' in line for line in lines)
