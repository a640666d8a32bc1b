"""Instructions against the words of the loaded policy: refused, or warned about once."""

import pytest

pytest.importorskip('rclpy')

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.ros.policy_node.instruction import MAX_WARNINGS, Vocabulary

from support.instruction_cases import cases


def test_each_unknown_word_is_warned_about_once_with_those_that_are_known():
    lines = []
    vocabulary = Vocabulary(('press', 'red'), 12, lines.append)
    for text in ('press red', 'press purple', 'PRESS Purple', 'press the red'):
        vocabulary.check(text)
    assert [line.split("'")[1] for line in lines] == ['purple', 'the']
    assert all(line.endswith('it knows: press, red') for line in lines)


def test_an_instruction_without_a_known_word_is_refused_and_not_warned_about():
    lines = []
    with pytest.raises(UserError, match='no word that this policy knows'):
        Vocabulary(('press', 'red'), 12, lines.append).check('按红色按钮')
    assert not lines


def test_hostile_words_can_neither_flood_nor_forge_a_log():
    lines = []
    vocabulary = Vocabulary(('open', 'the', 'drawer'), 0, lines.append)
    for text in cases(1000):
        try:
            vocabulary.check('open ' + text[:500])
        except UserError as error:
            lines.append(str(error))
    assert len(lines) == MAX_WARNINGS
    assert all(line.isascii() and line.isprintable() and len(line) < 1000 for line in lines)


def test_what_a_policy_says_of_an_instruction_is_logged_once():
    lines = []
    vocabulary = Vocabulary(warn=lines.append)
    for note in ('', 'cut: a', 'cut: a', 'cut: b', *map(str, range(1000))):
        vocabulary.tell(note)
    assert lines[:2] == ['cut: a', 'cut: b'] and len(lines) == MAX_WARNINGS


def test_without_a_list_of_words_everything_is_accepted():
    Vocabulary().check('按红色按钮')
