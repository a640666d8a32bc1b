"""What the black box keeps, writes, and gives back; and what a replay makes of it."""

import os
from pathlib import Path

import numpy as np
import pytest

from sqap_vla_ros.action_chunk import ActionChunk, ActionSpec
from sqap_vla_ros.camera import PinholeCamera
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.policy import Inference, Observation, Policy, PolicySpec
from sqap_vla_ros.recording import bag_writer, black_box
from sqap_vla_ros.recording.bag_reader import read_bag
from sqap_vla_ros.recording.bag_writer import write_bag
from sqap_vla_ros.recording.black_box import BlackBox
from sqap_vla_ros.recording.entries import Answered, Changed, Commanded, Observed
from sqap_vla_ros.recording.images import ImageFile, JPEG, KeptImage
from sqap_vla_ros.recording.replay import replay

ACTION = ActionSpec(('linear.x', 'gripper'), ('m/s', '1'), 0.05, 4)
STEP_NS = 200_000_000


class NoisyPolicy(Policy):
    """Remembers how often it was asked since its reset, as a diffusion head does."""

    spec = PolicySpec(('camera',), ('gripper',), ('1',), ACTION, 4, (2, 2))

    def __init__(self, bias=0.0):
        self._bias, self.budget = bias, None
        self.reset()

    def predict(self, observation):
        noise = self._rng.normal(size=(4, 2)).astype(np.float32)
        values = noise + observation.images['camera'].mean() / 255 + self._bias
        return Inference(ActionChunk(values, ACTION, observation.stamp_ns), {'total': 2.0}, 4)

    def reset(self):
        self._rng = np.random.default_rng(0)

    def set_budget(self, share):
        self.budget = share

    def describe(self):
        return {}

    def action_bounds(self):
        return np.zeros(2), np.ones(2)

    def typical_state(self):
        return np.zeros(1)


def observation(index, rng):
    camera = PinholeCamera(np.diag([90.0, 91.0, 1.0]), np.eye(4), 6, 5)
    return Observation(
        {'camera': rng.integers(0, 256, (5, 6, 3), np.uint8)},
        'öffne "das" Fach',
        np.array([0.25], np.float32),
        {'camera': camera},
        np.array([0.1, 0.2, 0.3]),
        index * STEP_NS,
    )


def run_of(policy, count, first=0):
    """Entries of a run of which everything before inference `first` is lost."""
    rng, entries = np.random.default_rng(1), [(0, Changed('RUNNING: goal'))]
    policy.reset()
    for index in range(count):
        seen = observation(index, rng)
        chunk = policy.predict(seen).chunk
        time_ns = seen.stamp_ns + STEP_NS // 2
        if index >= first:
            entries += [
                (seen.stamp_ns, Observed(seen, 3, index, 0.5)),
                (time_ns, Answered(chunk, {'vision': 1.0, 'total': 2.0}, 0.1, 4, 2)),
                (time_ns + 1, Commanded(np.array([0.1, 0, 0]), np.zeros(3))),
                (time_ns + 2, Commanded(gripper=1.0)),
                (time_ns + 3, Commanded(joints={'a': 0.5, 'b': -0.5})),
            ]
    return entries


def test_a_bag_gives_back_what_was_written(tmp_path):
    entries = run_of(NoisyPolicy(), 3)
    write_bag(tmp_path / 'bag', entries)
    assert list((tmp_path / 'bag').glob('*.mcap'))
    got = read_bag(tmp_path / 'bag')
    assert [(t, type(e)) for t, e in got] == [(t, type(e)) for t, e in entries]
    for (_, a), (_, b) in zip(entries, got):
        if isinstance(a, Observed):
            (x, _), (y, same) = a.decoded(), b.decoded()
            assert same
            np.testing.assert_array_equal(x.images['camera'], y.images['camera'])
            np.testing.assert_array_equal(x.state, y.state)
            np.testing.assert_array_equal(x.end_effector_m, y.end_effector_m)
            np.testing.assert_array_equal(
                x.cameras['camera'].intrinsics, y.cameras['camera'].intrinsics
            )
            assert (x.instruction, x.stamp_ns) == (y.instruction, y.stamp_ns)
            assert (a.generation, a.since_reset, a.budget) == (
                b.generation,
                b.since_reset,
                b.budget,
            )
        elif isinstance(a, Answered):
            np.testing.assert_array_equal(a.chunk.values, b.chunk.values)
            assert a.chunk.spec == b.chunk.spec and b.tokens_kept == 2
            assert b.latencies_ms == {'vision': 1.0, 'total': 2.0}
        elif isinstance(a, Commanded):
            assert (a.gripper, a.joints) == (b.gripper, b.joints)
        else:
            assert a == b


@pytest.mark.parametrize('first', [0, 4])
def test_a_replay_of_the_same_policy_is_exact_wherever_the_bag_begins(tmp_path, first):
    write_bag(tmp_path / 'bag', run_of(NoisyPolicy(), 7, first))
    policy = NoisyPolicy()
    result = replay(policy, read_bag(tmp_path / 'bag'))
    assert result.inferences == 7 - first and result.commands == 2 * (7 - first)
    assert not result.chunk_difference.any() and not result.command_difference.any()
    assert policy.budget == 0.5


def test_a_replay_of_another_policy_shows_by_how_much_it_differs(tmp_path):
    write_bag(tmp_path / 'bag', run_of(NoisyPolicy(), 3))
    result = replay(NoisyPolicy(bias=0.25), read_bag(tmp_path / 'bag'))
    np.testing.assert_allclose(result.chunk_difference, 0.25, atol=1e-6)
    np.testing.assert_allclose(result.command_difference, 0.25, atol=1e-6)


def test_a_bag_of_something_else_is_one_clear_line(tmp_path):
    write_bag(tmp_path / 'other', [(5, Changed('READY'))])
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'metadata.yaml').write_text('rosbag2_bagfile_information: 3')
    for name in ('nowhere', 'other', 'broken'):
        with pytest.raises(UserError) as error:
            read_bag(tmp_path / name)
        assert name in str(error.value) and '\n' not in str(error.value)


def test_the_black_box_forgets_what_is_too_old_and_writes_the_rest(tmp_path):
    reports = []
    box = BlackBox(2.0, tmp_path / 'bags', reports.append)
    entries = run_of(NoisyPolicy(), 30)
    for time_ns, entry in entries:
        box.add(entry, time_ns, time_ns * 1e-9)
    saved, path = box.save(now_s=100.0)
    assert saved
    box.wait()
    got = read_bag(path)
    assert got[0][0] >= entries[-1][0] - 2_000_000_000 and got[-1][0] == entries[-1][0]
    assert len(reports) == 1 and f'replay {path}` runs it again' in reports[0]
    assert not box.save(now_s=104.0)[0], 'the next one so soon'
    assert box.save(asked=True, now_s=104.0)[0]
    box.wait()


def test_a_bag_without_an_observation_does_not_promise_a_replay(tmp_path):
    reports = []
    box = BlackBox(2.0, tmp_path / 'bags', reports.append)
    box.add(Changed('READY'), 1, 1.0)
    assert box.save(now_s=1.0)[0]
    box.wait()
    assert 'nothing to replay' in reports[0] and 'runs it again' not in reports[0]


def test_an_empty_black_box_or_one_that_is_off_writes_nothing(tmp_path):
    assert BlackBox(5.0, tmp_path / 'bags').save() == (False, 'the black box is empty')
    off = BlackBox(0.0, tmp_path / 'bags')
    off.add(Changed('READY'), 1)
    assert off.save() == (False, 'the black box is off')
    assert not (tmp_path / 'bags').exists()


def test_a_directory_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / 'file').write_text('')
    reports = []
    box = BlackBox(5.0, tmp_path / 'file' / 'bags', reports.append)
    box.add(Changed('READY'), 1)
    assert box.save()[0]
    box.wait()
    assert len(reports) == 1 and 'not written' in reports[0]


def filled(directory, reports, count, limit_bytes=10**9):
    """Return a black box with a file of 1 MB every 0.1 s, the last one at count / 10 s."""
    box = BlackBox(10.0, directory, reports.append, limit_bytes)
    for index in range(1, count + 1):
        image = KeptImage(ImageFile('jpeg', JPEG + bytes(999_000)))
        seen = Observation({}, 'go', None, {}, None, index)
        box.add(Observed(seen, 0, index, 1.0, {'camera': image}), index, index / 10)
    return box


def test_large_images_leave_when_they_do_not_fit_and_the_bag_says_so(tmp_path):
    reports = []
    box = filled(tmp_path / 'bags', reports, 100, 20 * 10**6)
    assert box.save(now_s=10.0)[0]
    box.wait()
    path = next((tmp_path / 'bags').iterdir())
    assert sum(file.stat().st_size for file in path.iterdir()) < 21 * 10**6
    assert [time_ns for time_ns, _ in read_bag(path)] == list(range(82, 101))
    assert 'only the last 1.9 s of 10 s' in reports[0] and 'black_box_mb' in reports[0]
    assert 'only the last 1.9 s' in (path / 'metadata.yaml').read_text()


def test_one_image_that_does_not_fit_alone_is_not_kept(tmp_path):
    box = filled(tmp_path / 'bags', [], 3, 10**5)
    assert box.save(now_s=0.3) == (False, 'the black box is empty')


def test_bags_are_for_their_owner_alone(tmp_path):
    box = filled(tmp_path / 'bags', [], 1)
    previous = os.umask(0)
    try:
        assert box.save(now_s=0.1)[0]
        box.wait()
    finally:
        os.umask(previous)
    paths = [tmp_path / 'bags', *(tmp_path / 'bags').rglob('*')]
    assert len(paths) == 4 and not any(path.stat().st_mode & 0o077 for path in paths)


def test_no_part_of_a_bag_stays_when_the_disk_is_full(tmp_path, monkeypatch):
    real = bag_writer._messages

    def full(store, time_ns, entry):
        if time_ns > 2:
            raise OSError(28, 'No space left on device')
        return real(store, time_ns, entry)

    monkeypatch.setattr(bag_writer, '_messages', full)
    reports = []
    box = filled(tmp_path / 'bags', reports, 5)
    box.save(now_s=0.5)
    box.wait()
    assert 'No space left on device' in reports[0]
    assert list((tmp_path / 'bags').iterdir()) == []


def test_a_bag_that_would_fill_the_disk_is_not_begun(tmp_path, monkeypatch):
    usage = black_box.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(black_box.shutil, 'disk_usage', lambda path: usage._replace(free=10**9))
    reports = []
    box = filled(tmp_path / 'bags', reports, 1)
    box.save(now_s=0.1)
    box.wait()
    assert 'not written' in reports[0] and '1.0 GB are free' in reports[0]
    assert list((tmp_path / 'bags').iterdir()) == []


def test_only_whole_bags_count_among_those_that_are_kept(tmp_path):
    for index in range(30):
        bag = tmp_path / f'{black_box.PREFIX}1999_{index:02}'
        bag.mkdir()
        if index < 25:
            (bag / 'metadata.yaml').touch()
    other, killed = tmp_path / 'mine', tmp_path / f'.{black_box.PREFIX}abc'
    other.mkdir()
    killed.mkdir()
    os.utime(killed, (1, 1))
    box = filled(tmp_path, [], 1)
    _, path = box.save(now_s=0.1)
    box.wait()
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert kept[:19] == [f'{black_box.PREFIX}1999_{index:02}' for index in range(6, 25)]
    assert kept[19:] == [Path(path).name, 'mine']


def test_a_replay_does_not_repeat_without_end(tmp_path):
    rng = np.random.default_rng(1)
    entries = [(1, Observed(observation(1, rng), 0, 10**9, 0.5))]
    with pytest.raises(UserError, match='--repeats'):
        replay(NoisyPolicy(), entries)
    many = [(i, Observed(observation(i, rng), 0, 300 + 2 * i, 0.5)) for i in range(10)]
    with pytest.raises(UserError, match='--repeats'):
        replay(NoisyPolicy(), many)
