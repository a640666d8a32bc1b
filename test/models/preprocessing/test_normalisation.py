"""Normalisation of columns, as openpi and as lerobot do it."""

import numpy as np
import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.preprocessing.normalisation import make_normalisation, read_normalisation

STATISTICS = {
    'mean': [1.0, 2.0],
    'std': [0.5, 0.0],
    'min': [-1.0, 2.0],
    'max': [3.0, 2.0],
    'q01': [0.0, 2.0],
    'q99': [2.0, 2.0],
    'q10': [0.5, 2.0],
    'q90': [1.5, 2.0],
}
MODES = 'IDENTITY', 'MEAN_STD', 'MIN_MAX', 'QUANTILES', 'QUANTILE10'


def make(mode, library='lerobot', epsilon=1e-8, **changes):
    return make_normalisation('file: x', STATISTICS | changes, 2, mode, library, epsilon)


@pytest.mark.parametrize(
    ('mode', 'normalised', 'unnormalised'),
    [
        ('IDENTITY', 2.0, 2.0),
        ('MEAN_STD', 2.0, 2.0),
        ('MIN_MAX', 0.5, 5.0),
        ('QUANTILES', 1.0, 3.0),
        ('QUANTILE10', 2.0, 2.0),
    ],
)
def test_values_of_each_mode(mode, normalised, unnormalised):
    given = np.array([[2.0, 2.0]], np.float32)
    found = make(mode)
    assert found.normalise(given)[0, 0] == pytest.approx(normalised)
    assert found.unnormalise(given)[0, 0] == pytest.approx(unnormalised)
    assert found.normalise(given).dtype == found.unnormalise(given).dtype == np.float32


@pytest.mark.parametrize('mode', MODES)
def test_a_column_that_never_moved_is_as_in_lerobot(mode):
    found = make(mode)
    inside = found.normalise(np.array([2.0, 2.0], np.float32))[1]
    assert inside == {'IDENTITY': 2, 'MEAN_STD': 0}.get(mode, -1)
    outside = found.normalise(np.array([2.0, 2.5], np.float32))[1]
    assert outside == pytest.approx({'IDENTITY': 2.5, 'MEAN_STD': 0.5e8}.get(mode, 1e8))
    back = found.unnormalise(np.array([0.0, 7.0], np.float32))[1]
    assert back == pytest.approx(7 if mode == 'IDENTITY' else 2)
    assert found.constant().tolist() == [False, mode != 'IDENTITY']


def test_openpi_adds_its_epsilon_in_both_directions():
    found = make('MEAN_STD', 'openpi', 1e-2)
    assert found.normalise(np.array([2.0, 2.0]))[0] == pytest.approx(1 / 0.51)
    assert found.unnormalise(np.array([2.0, 2.0]))[0] == pytest.approx(2 * 0.51 + 1)
    lerobot = make('MEAN_STD', 'lerobot', 1e-2)
    assert lerobot.normalise(np.array([2.0, 2.0]))[0] == pytest.approx(1 / 0.51)
    assert lerobot.unnormalise(np.array([2.0, 2.0]))[0] == pytest.approx(2.0)


@pytest.mark.parametrize('mode', MODES)
def test_what_is_stored_is_read_again(mode):
    first = make(mode)
    second = read_normalisation('file: x', first.to_json(), 2, first.library)
    given = np.random.RandomState(0).randn(5, 2).astype(np.float32)
    assert np.array_equal(first.normalise(given), second.normalise(given))
    assert np.array_equal(first.unnormalise(given), second.unnormalise(given))


def test_statistics_of_earlier_policies_are_openpis():
    entry = {'mean': [1.0, 2.0], 'std': [0.5, 1.0]}
    found = read_normalisation('file: x', entry, 2, 'openpi')
    expected = (1.0 - 1.0) / 0.5, (3.0 - 2.0) / (1.0 + 1e-6)
    assert found.normalise(np.array([1.0, 3.0], np.float32)) == pytest.approx(expected, abs=1e-7)
    assert found.library == 'openpi' and found.epsilon == 1e-6


def test_ranges():
    low, high = make('MEAN_STD').range()  # of the data, not of the mode
    assert low[0] == 0 and high[0] == 2
    assert make('MIN_MAX').range()[0][0] == -1
    bare = {'mean': [1.0, 2.0], 'std': [0.5, 0.0]}
    low, high = make_normalisation('x', bare, 2, 'MEAN_STD', 'lerobot', 1e-8).range()
    assert low[0] == -0.5 and high[0] == 2.5
    assert make('QUANTILES').range()[0][0] == 0 and make('IDENTITY').range()[1][0] == 2
    unknown = make_normalisation('file: x', {}, 2, 'IDENTITY', 'lerobot', 1e-8)
    assert (unknown.range()[0] < 0).all() and (unknown.centre() == 0).all()
    assert make('MEAN_STD').centre()[0] == 1
    only = {'min': [0.0, 0.0], 'max': [2.0, 4.0]}
    assert make_normalisation('x', only, 2, 'MIN_MAX', 'lerobot', 1e-8).centre()[1] == 2


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'mode': 'MEAN_STD', 'std': None}, 'x.std is missing'),
        ({'mode': 'MEAN_STD', 'std': [1.0]}, 'x.std has 1 values, expected 2'),
        ({'mode': 'MEAN_STD', 'std': [1.0, float('nan')]}, 'x.std is nan in column 1'),
        ({'mode': 'MEAN_STD', 'std': [1.0, 1e39]}, 'x.std is inf in column 1'),
        ({'mode': 'MEAN_STD', 'std': [1.0, -1.0]}, 'x.std is -1 in column 1'),
        ({'mode': 'MEAN_STD', 'mean': ['a', 'b']}, 'x.mean is not a list of numbers'),
        ({'mode': 'MEAN_STD', 'mean': [[1.0], [2.0]]}, 'x.mean is not a list of numbers'),
        ({'mode': 'MIN_MAX', 'max': [-2.0, 2.0]}, 'min is above max in column 0'),
        ({'mode': 'QUANTILE10', 'q90': None}, 'x.q90 is missing'),
        ({'mode': 'LOG'}, "'LOG'"),
        ({'mode': 'MEAN_STD', 'epsilon': 0}, 'epsilon is 0'),
        ({'mode': 'MEAN_STD', 'epsilon': True}, 'epsilon is True'),
        ({'mode': 'MEAN_STD', 'library': 'mine'}, "'mine'"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=words.replace('.', r'\.')):
        make(**changes)


def test_statistics_that_the_mode_does_not_read_may_be_damaged():
    found = make('MEAN_STD', q01=[float('nan'), 0.0], q99=['a'], min=[1.0])
    assert 'q01' not in found.statistics and 'min' not in found.statistics
