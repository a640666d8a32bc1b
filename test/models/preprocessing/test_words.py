"""What a policy with a list of words makes of an instruction."""

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.preprocessing.words import (
    check_words,
    list_words,
    split_words,
    UNKNOWN,
    WordTokenizer,
)

WORDS = ('button', 'press', 'red', 'the')


@pytest.mark.parametrize(
    'text, words',
    [
        ('PRESS the RED button.', ['press', 'the', 'red', 'button']),
        ('press_the_red-button', ['press', 'the', 'red', 'button']),
        ('drücke den Knopf', ['drücke', 'den', 'knopf']),
        ('按红色按钮', ['按红色按钮']),
        ('?! \U0001f600', []),
    ],
)
def test_words_are_letters_and_digits_of_any_script(text, words):
    assert split_words(text) == words
    assert len([i for i in WordTokenizer(list(WORDS), 12).encode(text) if i]) == len(words)


def test_a_word_of_another_script_is_one_unknown_word():
    assert WordTokenizer(['red'], 3).encode('röd red') == [UNKNOWN, 4, 0]


def test_unknown_words_are_found_once_each():
    assert check_words('press the purple purple knob', WORDS) == ['purple', 'knob']
    assert check_words('Press the RED button!', WORDS) == []


@pytest.mark.parametrize('text', ['drücke den roten Knopf', '按红色按钮', '...', ''])
def test_an_instruction_without_a_known_word_is_refused(text):
    with pytest.raises(UserError, match='knows: button, press, red, the$'):
        check_words(text, WORDS)


def test_an_instruction_that_would_be_cut_is_refused():
    assert check_words('press the red button', WORDS, 4) == []
    with pytest.raises(UserError, match='has 5 words, this policy reads at most 4'):
        check_words('please press the red button', WORDS, 4)


def test_a_policy_without_a_list_reads_any_text():
    assert check_words('按红色按钮 ' * 100, ()) == []


def test_a_list_of_words_is_short_and_safe_to_log():
    line = list_words([f'word{i}' for i in range(10_000)])
    assert len(line) < 500 and line.endswith('... (10000 words in all)')
    assert list_words(['a', 'b\n[ERROR]', 'ü']) == "a, 'b\\n[ERROR]', '\\xfc'"
    assert len(list_words(['x' * 1_000_000, 'b'])) < 500
