"""The tokenizer of the policies trained here: one token id per word."""

import json
from pathlib import Path
import re

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.files import read_json

VOCABULARY_FILE = 'vocabulary.json'
PAD, BOS, COGNITION, UNKNOWN = range(4)
SPECIAL = ('<pad>', '<bos>', '<cognition>', '<unknown>')


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
        words = re.findall(r'[a-z0-9]+', instruction.lower())[: self.length]
        ids = [self._ids.get(word, UNKNOWN) for word in words]
        return ids + [PAD] * (self.length - len(ids))

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
        return cls(words, length)
