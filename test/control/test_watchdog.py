import numpy as np
import pytest

from sqap_vla_ros.control.watchdog import ClockJumpDetector, FrozenCameraDetector, InputWatchdog

MS = 1_000_000


def test_an_input_that_never_came_is_stale():
    (stale,) = InputWatchdog({'camera': 0.5}).stale(10**12)
    assert stale.age_s is None
    assert str(stale) == 'camera has never arrived'


def test_each_input_has_its_own_timeout():
    watchdog = InputWatchdog({'camera': 0.5, 'pose': 0.1})
    watchdog.feed('camera', 0)
    watchdog.feed('pose', 0)
    assert watchdog.stale(100 * MS) == []
    assert [stale.name for stale in watchdog.stale(101 * MS)] == ['pose']
    assert [stale.name for stale in watchdog.stale(501 * MS)] == ['camera', 'pose']
    watchdog.feed('pose', 501 * MS)
    (stale,) = watchdog.stale(501 * MS)
    assert str(stale) == 'camera last arrived 501 ms ago (limit 500 ms)'


def test_inputs_without_a_timeout_are_ignored():
    watchdog = InputWatchdog({})
    watchdog.feed('camera', 0)
    assert watchdog.age_s('camera', 5) is None
    assert watchdog.stale(10**12) == []


@pytest.mark.parametrize('timeout_s', [0, -1, float('nan'), float('inf')])
def test_a_timeout_must_be_a_positive_number(timeout_s):
    with pytest.raises(ValueError, match='camera'):
        InputWatchdog({'camera': timeout_s})


def test_a_camera_is_frozen_after_equal_images_with_new_stamps():
    detector = FrozenCameraDetector(images=3)
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert [detector.feed(image.copy(), stamp) for stamp in range(5)] == [False] * 3 + [True] * 2
    image[5, 5, 0] ^= 1
    assert not detector.feed(image, 9)


def test_an_image_that_does_not_change_while_the_arm_rests_proves_nothing():
    detector = FrozenCameraDetector(images=2)
    assert not any(detector.feed(b'image', stamp, moving=False) for stamp in range(50))
    assert [detector.feed(b'image', stamp) for stamp in range(50, 52)] == [False, True]
    assert detector.feed(b'image', 52, moving=False)  # the cause is still there
    assert not detector.feed(b'other', 53, moving=False)


def test_images_with_padded_or_reversed_rows_can_be_compared():
    detector = FrozenCameraDetector(images=1)
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert not detector.feed(image[:, 2:8, ::-1], 1)
    assert detector.feed(image[:, 2:8, ::-1], 2)
    assert not detector.feed(image[:, 2:8], 3)


def test_the_same_message_twice_is_not_a_frozen_camera():
    detector = FrozenCameraDetector(images=1)
    detector.feed(b'image', 1)
    assert not detector.feed(b'image', 1)
    assert detector.feed(b'image', 2)


def feed(detector, *times_ms):
    return [detector.feed(round(clock * MS), round(steady * MS)) for clock, steady in times_ms]


def test_clocks_in_step_are_fine_and_so_is_a_slow_simulation():
    assert feed(ClockJumpDetector(), *((0.3 * t, t) for t in range(0, 20000, 20))) == [None] * 1000


def test_a_clock_that_goes_back_is_noticed_once():
    found = feed(ClockJumpDetector(), (5000, 0), (5020, 20), (4000, 40), (4020, 60))
    assert found[:2] + found[3:] == [None] * 3
    assert 'back by 1.020 s' in found[2]


def test_a_clock_that_leaps_ahead_is_noticed_once():
    found = feed(ClockJumpDetector(jump_s=0.2), (0, 0), (20, 20), (340, 40), (360, 60))
    assert found[:2] + found[3:] == [None] * 3
    assert 'ahead by 0.300 s' in found[2]


def test_a_late_call_is_not_a_jump():
    assert feed(ClockJumpDetector(), (0, 0), (3000, 3000)) == [None, None]


def test_a_clock_that_comes_in_bursts_is_not_a_jump():
    times = [(steady // 400 * 400, steady) for steady in range(0, 4000, 20)]
    assert feed(ClockJumpDetector(jump_s=0.2, pause_s=0.5), *times) == [None] * 200


def test_a_paused_clock_is_noticed_until_it_goes_on():
    times = [(100, t) for t in range(0, 1000, 100)] + [(150, 1000), (250, 1100)]
    found = feed(ClockJumpDetector(pause_s=0.5), *times)
    assert found[:6] == [None] * 6
    assert all('stands still' in text for text in found[6:10])
    assert found[10:] == [None, None]
