"""Images in the black box: as they came while there is room, otherwise JPEGs; never too many."""

import io
import json
from threading import Event

import numpy as np
from PIL import Image
import pytest

from sqap_vla_ros.policy import Observation
from sqap_vla_ros.recording import bag_writer
from sqap_vla_ros.recording.bag_reader import read_bag
from sqap_vla_ros.recording.bag_writer import write_bag
from sqap_vla_ros.recording.entries import Changed, Observed
from sqap_vla_ros.recording.images import ImageFile, keep, Pixels
from sqap_vla_ros.recording.ring import Ring

HEIGHT, WIDTH = 120, 160
FRAME = 3 * HEIGHT * WIDTH


def picture(seed):
    """uint8 [HEIGHT, WIDTH, 3]: a gradient with the noise of a sensor."""
    noise = np.random.default_rng(seed).normal(0, 3, (HEIGHT, WIDTH, 3))
    return np.clip(np.linspace(20, 200, WIDTH)[:, None] + noise, 0, 255).astype(np.uint8)


def observed(index, images, messages=None):
    seen = Observation(images, 'go', None, {}, None, index)
    kept = {name: keep(message, 'bgr') for name, message in (messages or {}).items()}
    return Observed(seen, 0, index, 1.0, kept)


def file_of(rgb, kind):
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind)
    return ImageFile(kind.lower(), file.getvalue())


@pytest.fixture
def ring(monkeypatch):
    """Return a ring of 2 s and 10 frames, which encodes only when it is told to."""
    monkeypatch.setattr(Ring, '_start', lambda self: None)
    return Ring(2.0, 10 * FRAME, pytest.fail)


def observations(ring, now_s):
    return [e for _, e in ring.entries(now_s)[0] if isinstance(e, Observed)]


def test_images_stay_as_they_came_while_there_is_room(ring):
    for index in range(4):
        ring.add(observed(index, {'camera': picture(index)}), index, index / 10)
        assert not ring.shrink_one()
    assert all(entry.decoded()[1] for entry in observations(ring, 0.4))
    assert ring.entries(0.4)[2] == ''


def test_the_oldest_images_become_jpegs_so_that_the_whole_period_fits(ring):
    for index in range(20):
        ring.add(observed(index, {'camera': picture(index)}), index, index / 10)
        while ring.shrink_one():
            pass
        assert ring.bytes <= 10 * FRAME
    kept = observations(ring, 1.95)
    assert len(kept) == 20 and ring.entries(1.95)[2] == ''
    exact = [entry.decoded()[1] for entry in kept]
    assert exact == sorted(exact) and exact.count(True) in (3, 4)
    for index, entry in enumerate(kept):
        error = entry.decoded()[0].images['camera'].astype(int) - picture(index)
        assert np.abs(error).mean() < 3


def test_observations_are_left_out_where_images_come_faster_than_they_are_encoded(ring):
    for index in range(40):
        ring.add(observed(index, {'camera': picture(index)}), index, index / 20)
        if index % 3 == 0:
            ring.shrink_one()
        assert ring.bytes <= 10 * FRAME
    kept = [entry.since_reset for entry in observations(ring, 1.95)]
    assert kept[0] == 0 and kept[-1] == 39 and 12 < len(kept) < 25
    assert max(np.diff(kept)) < 10
    assert f'of {40} observations left out' in ring.entries(1.95)[2]
    assert 'only the last' not in ring.entries(1.95)[2]


def test_an_image_that_takes_more_than_the_limit_is_kept_as_a_jpeg(monkeypatch):
    monkeypatch.setattr(Ring, '_start', lambda self: None)
    ring = Ring(2.0, FRAME // 2, pytest.fail)
    for index in range(4):
        ring.add(Changed(str(index)), 2 * index, index / 10)
        ring.add(observed(index, {'camera': picture(index)}), 2 * index + 1, index / 10)
        assert ring.bytes < 2 * FRAME
        if index != 1:  # the next one comes before this one is encoded
            while ring.shrink_one():
                pass
    kept, size, short = ring.entries(0.4)
    assert [time_ns for time_ns, _ in kept] == [0, 1, 2, 3, 4, 6, 7]
    assert size < FRAME // 2 and short.startswith('1 of 4 observations left out')


def test_what_a_jpeg_does_not_make_smaller_is_left_as_it_is(ring):
    jpeg = file_of(picture(0), 'JPEG')
    rgb = np.asarray(Image.open(io.BytesIO(jpeg.data)))
    for index in range(200):
        ring.add(observed(index, {'camera': rgb}, {'camera': jpeg}), index, index / 100)
        assert not ring.shrink_one()
    (name, image), *_ = observations(ring, 1.99)[0].images.items()
    assert name == 'camera' and image.content.data is jpeg.data


def test_the_thread_encodes_and_survives_an_image_that_it_cannot_decode():
    told, done = [], Event()
    ring = Ring(10.0, 10 * FRAME, lambda text: (told.append(text), done.set()))
    broken = Pixels(HEIGHT, WIDTH, 'nonsense', 0, 3 * WIDTH, bytes(FRAME))
    for index in range(5):
        ring.add(observed(index, {'camera': picture(0)}, {'camera': broken}), index, index / 10)
    assert done.wait(20) and 'not encoded' in told[0] and '\n' not in told[0]
    ring.add(Changed('HOLDING'), 9, 0.9)
    assert ring.entries(1.0)[0][-1][1] == Changed('HOLDING')


def test_every_kind_of_image_comes_back_from_a_bag(tmp_path):
    rgb = picture(1)
    bgr = rgb[..., ::-1].tobytes()
    mosaic = np.ascontiguousarray(rgb[..., 1])
    messages = {
        'bgr': Pixels(HEIGHT, WIDTH, 'bgr8', 0, 3 * WIDTH, bgr),
        'numbers': Pixels(HEIGHT, WIDTH, '8UC3', 0, 3 * WIDTH, bgr),
        'bayer': Pixels(HEIGHT, WIDTH, 'bayer_rggb8', 0, WIDTH, mosaic.tobytes()),
        'jpeg': file_of(rgb, 'JPEG'),
        'png': file_of(rgb, 'PNG'),
    }
    seen = {name: keep(message, 'bgr').rgb() for name, message in messages.items()}
    entry = observed(5, seen, messages)
    write_bag(tmp_path / 'bag', [(5, entry)])
    ((_, got),) = read_bag(tmp_path / 'bag')
    observation, same = got.decoded()
    assert same and list(observation.images) == list(messages)
    for name, image in observation.images.items():
        np.testing.assert_array_equal(image, seen[name])
        assert got.images[name].nbytes == memoryview(messages[name].data).nbytes


def test_a_bag_of_jpegs_or_of_another_decoder_does_not_claim_to_be_exact(tmp_path):
    entry = observed(5, {'camera': picture(1)})
    jpeg = Observed(entry.observation, 0, 5, 1.0, {'camera': entry.images['camera'].as_jpeg(90)})
    other = observed(6, {'camera': picture(2)}, {'camera': file_of(picture(3), 'PNG')})
    write_bag(tmp_path / 'bag', [(5, jpeg), (6, other)])
    assert [e.decoded()[1] for _, e in read_bag(tmp_path / 'bag')] == [False, False]


def test_a_bag_of_an_earlier_version_is_exact(tmp_path, monkeypatch):
    write = bag_writer._text

    def text(store, topic, content):
        old = json.loads(content)
        del old['kept']
        return write(store, topic, json.dumps(old))

    monkeypatch.setattr(bag_writer, '_text', text)
    write_bag(tmp_path / 'bag', [(5, observed(5, {'camera': picture(1)}))])
    ((_, got),) = read_bag(tmp_path / 'bag')
    observation, same = got.decoded()
    assert same
    np.testing.assert_array_equal(observation.images['camera'], picture(1))
