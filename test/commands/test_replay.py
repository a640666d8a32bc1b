"""`sqap_vla replay`: what it says of the images that the policy saw."""

from types import SimpleNamespace

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.cli import main
from sqap_vla_ros.models import loading
from sqap_vla_ros.policy import Observation
from sqap_vla_ros.recording.bag_writer import write_bag
from sqap_vla_ros.recording.entries import Answered, Observed

ACTION = ActionSpec(('linear.x',), ('m/s',), 0.05, 2)


class Mean:
    """A policy that moves as bright as its image is."""

    spec = SimpleNamespace(words=(), max_words=0)

    def predict(self, observation):
        values = np.full((2, 1), observation.images['camera'].mean() / 255, np.float32)
        return SimpleNamespace(chunk=ActionChunk(values, ACTION, observation.stamp_ns))

    def reset(self):
        pass

    def set_budget(self, share):
        pass


@pytest.mark.parametrize('jpegs', [0, 2])
def test_it_says_whether_the_images_are_those_that_the_policy_saw(
    tmp_path, monkeypatch, capsys, jpegs
):
    entries = []
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 256, (40, 40, 3), np.uint8)
        entry = Observed(Observation({'camera': image}, 'go', stamp_ns=index), 0, index, 1.0)
        chunk = Mean().predict(entry.decoded()[0]).chunk
        if index < jpegs:
            small = {'camera': entry.images['camera'].as_jpeg(75)}
            entry = Observed(entry.observation, 0, index, 1.0, small)
        entries += [(index, entry), (index, Answered(chunk, {'total': 1.0}, 0.1, 4, 4))]
    write_bag(tmp_path / 'bag', entries)
    monkeypatch.setattr(loading, 'load_policy', lambda *_, **__: Mean())
    same = ['replay', str(tmp_path / 'bag'), '--policy', 'x', '--tolerance', '0']
    assert main(same) == (1 if jpegs else 0)
    line = capsys.readouterr().out.splitlines()[1]
    if jpegs:
        assert '2 of 3 observations have JPEGs' in line and 'approximate' in line
    else:
        assert line == 'images: exactly those that the policy saw'


def test_an_error_that_nobody_foresaw_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr('sqap_vla_ros.commands.replay.run', lambda _: [][1])
    replay = ['replay', 'x', '--policy', 'x']
    assert main(replay) == 70
    told = capsys.readouterr().err
    assert 'IndexError: list index out of range (test_replay.py' in told and told.count('\n') == 1
    monkeypatch.setenv('SQAP_VLA_TRACEBACK', '1')
    with pytest.raises(IndexError):
        main(replay)
