"""`sqap_vla recipes`: the recipes that come with the package."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--all',
        action='store_true',
        help='also list the recipes that the experiments compare with these',
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each recipe: its name, what it is, and when to use it."""
    from sqap_vla_ros.compression.recipe_files import package_recipes

    recipes = package_recipes()
    experiments = package_recipes(experiments=True)
    width = max(len(recipe.name) for recipe in recipes + experiments)
    what_width = max(len(recipe.what) for recipe in recipes)
    for recipe in recipes:
        print(f'{recipe.name:{width}}  {recipe.what:{what_width}}  {recipe.when}'.rstrip())
    if arguments.all:
        print('\nexperiments: baselines, other rules and other numbers of bits')
        for recipe in experiments:
            print(f'{recipe.name:{width}}  {recipe.what}'.rstrip())
    return 0
