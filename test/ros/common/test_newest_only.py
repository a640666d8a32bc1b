"""Work of which only the newest item of each name counts."""

from threading import Event, get_ident

import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.ros.common.newest_only import NewestOnly


@pytest.fixture
def slow():
    """Make a worker whose first item waits until `go` is set."""

    class Slow:
        def __init__(self):
            self.done, self.begun, self.go = [], Event(), Event()
            self.finished, self.thread = Event(), None
            self.newest = NewestOnly(self.work, 'test')

        def work(self, name, item):
            self.thread = get_ident()
            self.begun.set()
            self.go.wait(10)
            self.done.append((name, item))
            if item == 'last':
                self.finished.set()

    slow = Slow()
    yield slow
    slow.go.set()
    slow.newest.close()


def test_older_items_are_dropped_and_every_name_has_its_turn(slow):
    assert not slow.newest.put('a', 1)
    assert slow.begun.wait(10)
    assert not slow.newest.put('a', 2)
    assert not slow.newest.put('b', 3)
    assert slow.newest.put('a', 4)
    assert slow.newest.put('b', 'last')
    slow.go.set()
    assert slow.finished.wait(10)
    assert slow.done == [('a', 1), ('a', 4), ('b', 'last')]
    assert slow.thread != get_ident()


def test_closing_waits_for_the_item_that_is_worked_on_and_ends_the_thread(slow):
    slow.newest.put('a', 1)
    assert slow.begun.wait(10)
    slow.go.set()
    slow.newest.close()
    assert slow.done == [('a', 1)]
    slow.newest.put('a', 2)
    assert slow.done == [('a', 1)]
