"""The tokenizer of the policies trained here: one token id per word."""

from collections.abc import Iterable, Sequence
import json
from pathlib import Path
import re

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.input_files import read_json

VOCABULARY_FILE = 'vocabulary.json'
PAD, BOS, COGNITION, UNKNOWN = range(4)
MOST_WORDS = 100_000
MAX_WORD = 40
"""Characters of one word in a message."""
LISTED_CHARACTERS = 400
"""Length of a list of words in a message."""
SPECIAL = ('<pad>', '<bos>', '<cognition>', '<unknown>')


def split_words(text: str) -> list[str]:
    """Split text into words of letters and digits of any script, in lower case."""
    return re.findall(r'[^\W_]+', text.lower())


def check_words(instruction: str, known: Sequence[str], most: int = 0) -> list[str]:
    """
    Check that a policy can follow an instruction.

    Args:
        instruction: the task in words.
        known: every word that the policy knows, in lower case; empty: it reads any text.
        most: how many words it reads; 0: all of them.

    Returns:
        The words that it does not know, each once, in the order of the instruction.

    Raises:
        UserError: it knows none of the words, or there are more than it reads.
    """
    if not known:
        return []
    words = split_words(instruction)
    if most and len(words) > most:
        raise UserError(
            f'instruction has {len(words)} words, this policy reads at most {most}; shorten it'
        )
    unknown = list(dict.fromkeys(word for word in words if word not in known))
    if not set(words) - set(unknown):
        raise UserError(
            'instruction has no word that this policy knows; it knows: ' + list_words(known)
        )
    return unknown


def check_instructions(
    instructions: Iterable[str], known: Sequence[str], most: int = 0
) -> list[str]:
    """
    Check several instructions; see `check_words`.

    Returns:
        A line for each word that the policy does not know.

    Raises:
        UserError: it cannot follow one of them; the message quotes it.
    """
    unknown: dict[str, None] = {}
    for text in dict.fromkeys(instructions):
        try:
            unknown |= dict.fromkeys(check_words(text, known, most))
        except UserError as error:
            raise UserError(f'{text[:LISTED_CHARACTERS]!a}: {error}') from None
    return [describe_unknown(word, known) for word in unknown]


def describe_unknown(word: str, known: Sequence[str]) -> str:
    """Say in one line that a word is unknown, and which words are known."""
    return (
        f'instruction: the word {word[:MAX_WORD]!a} means nothing to this policy; it knows: '
        + list_words(known)
    )


def list_words(words: Sequence[str], length: int = LISTED_CHARACTERS) -> str:
    """Join words for one line: escaped, and at most about `length` characters."""
    shown: list[str] = []
    for word in words:
        word = word[:MAX_WORD]
        shown.append(word if word.isascii() and word.isalnum() else ascii(word))
        length -= len(shown[-1]) + 2
        if length < 0 and len(shown) < len(words):
            return ', '.join([*shown[:-1], f'... ({len(words)} words in all)'])
    return ', '.join(shown)


class WordTokenizer:
    """
    One id per word, padded to a fixed length.

    Words consist of letters and digits only, so text in an instruction that looks like a special
    token is not parsed as one.
    """

    def __init__(self, words: list[str], length: int) -> None:
        self.words = list(words)
        self.length = length
        self._ids = {word: i + len(SPECIAL) for i, word in enumerate(words)}

    def __len__(self) -> int:
        return len(SPECIAL) + len(self.words)

    def encode(self, instruction: str) -> list[int]:
        """Return `length` ids. Words beyond the length are dropped; unknown words share one id."""
        words = split_words(instruction)[: self.length]
        ids = [self._ids.get(word, UNKNOWN) for word in words]
        return ids + [PAD] * (self.length - len(ids))

    def cut(self, instruction: str) -> str:
        """Say in one line that words of an instruction are dropped; empty: none."""
        words = split_words(instruction)
        if len(words) <= self.length:
            return ''
        return (
            f'instruction has {len(words)} words, this policy reads {self.length}; it does not '
            f'read: {list_words(words[self.length :])}'
        )

    def save(self, directory: Path) -> None:
        """Write `vocabulary.json`."""
        text = json.dumps({'words': self.words}, indent=1)
        (Path(directory) / VOCABULARY_FILE).write_text(text + '\n', 'utf-8')

    @classmethod
    def load(cls, directory: Path, length: int) -> 'WordTokenizer':
        """
        Read `vocabulary.json` of a policy directory.

        Raises:
            UserError: names the file that is missing or damaged.
        """
        path = Path(directory) / VOCABULARY_FILE
        words = read_json(path).get('words')
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f'{path}: words is not a list of strings')
        if len(words) > MOST_WORDS:
            raise UserError(f'{path}: has {len(words)} words, expected at most {MOST_WORDS}')
        return cls(words, length)
