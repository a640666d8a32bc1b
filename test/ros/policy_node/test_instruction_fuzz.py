"""
Hostile instructions: cleaned or refused, escaped in logs, and never special tokens.

INSTRUCTION_CASES sets how many; `make fuzz` tries 10 000.
"""

import os
import unicodedata

import pytest

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.preprocessing.words import BOS, COGNITION, PAD, UNKNOWN, WordTokenizer
from sqap_vla_ros.ros.policy_node.instruction import clean_instruction, quoted

from support.instruction_cases import cases

COUNT = int(os.environ.get('INSTRUCTION_CASES', 2000))
MAX_LENGTH = 256


@pytest.fixture(scope='module')
def tokenizer():
    return WordTokenizer(['open', 'the', 'drawer', 'push', 'red', 'button'], 12)


def cleaned():
    for text in cases(COUNT):
        try:
            yield text, clean_instruction(text, MAX_LENGTH)
        except UserError as error:
            yield text, error


def test_every_instruction_is_cleaned_or_refused_in_one_short_line():
    outcomes = list(cleaned())
    assert len(outcomes) == COUNT
    for text, outcome in outcomes:
        if isinstance(outcome, UserError):
            line = str(outcome)
            assert len(line) < 300 and line.isprintable()
            continue
        assert 0 < len(outcome) <= MAX_LENGTH
        assert all(unicodedata.category(c)[0] != 'C' for c in outcome)
        assert '  ' not in outcome and outcome == outcome.strip()
        assert (
            clean_instruction(outcome, MAX_LENGTH) == outcome
            or unicodedata.normalize('NFKC', outcome) != outcome
        )  # cut within a sequence
    accepted = sum(isinstance(outcome, str) for _, outcome in outcomes)
    assert accepted > COUNT / 2


def test_a_log_line_shows_it_escaped_and_short():
    for text in cases(COUNT):
        line = quoted(text)
        assert line.isascii() and line.isprintable() and len(line) < 1000


def test_no_instruction_becomes_a_special_token(tokenizer):
    """What a user writes can neither end a prompt nor stand for the policy's own tokens."""
    for _, outcome in cleaned():
        if isinstance(outcome, str):
            tokens = tokenizer.encode(outcome)
            assert len(tokens) == tokenizer.length
            assert not {BOS, COGNITION} & set(tokens)
            words = [token for token in tokens if token != PAD]
            assert tokens == words + [PAD] * (len(tokens) - len(words))
    assert tokenizer.encode('<bos><cognition>')[:2] == [UNKNOWN, UNKNOWN]
