"""What is told of problems that come and go, and how often."""

from sqap_vla_ros.ros.common.problems import Problem, ProblemLog, REPEAT_S
from sqap_vla_ros.ros.common.throttle import Throttle


class Told:
    """A `ProblemLog` with a clock that is set by hand."""

    def __init__(self):
        self.now_s, self.logged = 100.0, []
        self._log = ProblemLog(self.logged.append, lambda: self.now_s)

    def at(self, now_s, *problems):
        self.now_s = 100.0 + now_s
        return self._log.update(problems)


TWO = Problem('publishers', '/image', 'two publishers', 5.0)
WRONG = Problem('type', '/image', 'another type')


def test_a_problem_is_logged_once_while_it_lasts_and_again_when_it_comes_again():
    told = Told()
    for second in range(20):
        assert told.at(second, WRONG) == ['another type']
    assert told.logged == ['another type']
    assert told.at(20) == []
    assert told.at(21, WRONG) == ['another type'] and told.logged == ['another type'] * 2


def test_a_new_problem_is_logged_at_once_whatever_the_clock_says():
    for index in range(1000):  # no difference of times is exact
        told = Told()
        told.at(index * 1.1 + 1e-7, WRONG)
        assert told.logged == ['another type']


def test_what_does_not_last_is_not_told():
    told = Told()
    for second in range(40):
        assert told.at(second, *[TWO] * (second % 5 != 4)) == []
    assert not told.logged
    for second in range(40, 45):
        assert told.at(second, TWO, WRONG) == ['another type']
    assert told.at(45, TWO, WRONG) == ['two publishers', 'another type']
    assert told.logged == ['another type', 'two publishers']


def test_a_problem_that_flickers_or_changes_does_not_flood_the_log():
    told = Told()
    for tick in range(600):  # 60 s
        problem = WRONG._replace(text=f'published by {tick}')
        assert told.at(tick / 10, *[problem] * (tick % 2)) == [problem.text] * (tick % 2)
    assert 5 <= len(told.logged) <= 60 / REPEAT_S
    told.at(60, *(WRONG._replace(subject=f'/{index}') for index in range(9)))
    assert len(told.logged) <= 60 / REPEAT_S + 9
    told.at(61 + REPEAT_S)
    assert not told._log._told_s and not told._log._since_s and not told._log._told


def test_a_throttle_keeps_the_keys_apart_and_forgets_them():
    now = [0.0]
    throttle = Throttle(2.0, lambda: now[0])
    assert throttle.passes('/a') and throttle.passes('/b') and not throttle.passes('/a')
    now[0] = 1.9
    assert not throttle.passes('/b') and throttle.passes('/c')
    now[0] = 2.0
    assert throttle.passes('/a') and not throttle.passes('/c')
    assert len(throttle._passed_s) == 2
