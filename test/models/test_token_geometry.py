"""Every family tells where its tokens lie, and protects those that show the gripper."""

from dataclasses import replace

import numpy as np
import pytest

from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.compression.recipe import PruningRecipe, Recipe
from sqap_vla_ros.compression.recipe_files import save_recipe
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.loading import load_policy
from sqap_vla_ros.models.self_test import instructions_for
from sqap_vla_ros.policy import Criterion, Observation
from sqap_vla_ros.token_geometry import LETTERBOX, SQUASH, TokenGeometry

from support import tiny_pi0
from support.tiny_policy import WORDS

GEOMETRY = {
    'openvla': TokenGeometry(SQUASH, 1.0, 224, 14),
    'cogact': TokenGeometry(SQUASH, 1.0, 224, 14),
    'pi0': TokenGeometry(LETTERBOX, 1.0, 224, 14),
}
WIDTH, HEIGHT = 640, 480
CAMERA = PinholeCamera(
    np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), np.eye(4), WIDTH, HEIGHT
)


@pytest.fixture(scope='module')
def recipe(tmp_path_factory):
    """Keep one token in five, with those that show the surroundings of the end effector."""
    path = tmp_path_factory.mktemp('recipe') / 'recipe.yaml'
    pruning = PruningRecipe(ratio=0.8, layer=1, protection_radius_m=0.05)
    save_recipe(Recipe('protect', pruning=pruning), path)
    return path


def observation(policy, row):
    """Make an observation with the end effector in the middle of an image row."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cameras = policy.spec.cameras
    state = tiny_pi0.state() if policy.spec.state_names else None
    return Observation(
        dict.fromkeys(cameras, image),
        'open the drawer',
        state,
        dict.fromkeys(cameras, CAMERA),
        np.array([0.0, (row - 240) / 600, 1.0]),
    )


@pytest.mark.slow
@pytest.mark.parametrize('family', GEOMETRY)
def test_the_token_that_shows_the_gripper_is_kept_because_of_it(imported, recipe, family):
    policy = load_policy(imported[family], recipe=recipe)
    assert policy.spec.token_geometry == GEOMETRY[family]
    for row in (25, 300, 455):
        policy.reset()
        selection = policy.predict(observation(policy, row)).selection
        assert selection.geometry == GEOMETRY[family]
        protected = selection.kept[selection.criterion == Criterion.ROBOT]
        shown = selection.geometry.rectangles(selection.grid, WIDTH, HEIGHT)[protected % 256]
        # The tokens that show the surroundings within 30 pixels, and none of a bar.
        assert (shown[:, 1] <= row + 30).all() and (shown[:, 3] >= row - 30).all()
        assert (shown[:, 3] > shown[:, 1]).all()
        assert any(top <= row < bottom for _, top, _, bottom in shown)


def test_a_camera_of_another_size_than_its_image_is_refused(model, policy_directory, recipe):
    policy = load_policy(policy_directory, recipe=recipe)
    seen = replace(observation(policy, 240), state=np.zeros(4, np.float32))
    small = {'camera': seen.images['camera'][::2, ::2]}
    policy.predict(seen)
    with pytest.raises(UserError, match="camera 'camera' is of 640 x 480 .* image of 320 x 240"):
        policy.predict(replace(seen, images=small))
    policy.predict(replace(seen, images=small, cameras={}))


def test_a_policy_of_words_tells_which_and_is_tested_with_them(policy_directory):
    policy = load_policy(policy_directory)
    assert policy.spec.words == tuple(WORDS) and policy.spec.max_words == 6
    first, second = instructions_for(policy)
    assert {*first.split()} & {*WORDS} != {*second.split()} & {*WORDS}
    policy.spec = replace(policy.spec, words=('grasp', 'lift'))
    assert instructions_for(policy) == ('grasp', 'lift')
