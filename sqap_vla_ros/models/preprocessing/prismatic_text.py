"""Whose tokenizer a file is, and the prompt of the released Prismatic models (OpenVLA, CogACT)."""

from collections.abc import Mapping, Sized
from pathlib import Path
import re

from tokenizers import Tokenizer

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.preprocessing.tokenizer_file import (
    encode,
    load_tokenizer,
    TOKENIZER_FILE,
)

EMPTY = 29871
"""Llama 2's id of a lone word separator, which training put after 'Out:'."""
LLAMA_2_TOKENS = {'<unk>': 0, '<s>': 1, '</s>': 2, '<0x0A>': 13, '▁': EMPTY}
"""Ids of Llama 2's tokenizer, which tell it from those of other models of the same kind."""
LLAMA_2_SPELLS = 'Pick  up', '▁Pick▁▁up'
"""A text, and its tokens joined, which tell Llama 2's normalizer from others."""
PROMPT = 'In: What action should the robot take to {instruction}?\nOut:'
INSTRUCTION_LIMIT = 400
"""Longer instructions are cut to this many characters, to fit the decoder's context."""


def check_tokenizer(
    path: Path,
    tokenizer: Tokenizer,
    title: str,
    ids: Mapping[str, int],
    spells: tuple[str, str] | None,
) -> None:
    """
    Refuse a tokenizer that is not the one that a model was trained with.

    Args:
        path: of its file, for messages.
        tokenizer: what was read.
        title: whose it must be, for messages.
        ids: ids of a few of its tokens.
        spells: a text, and its tokens joined without anything between them; None: not checked.

    Raises:
        UserError: names the token, or what becomes of the text.
    """
    remedy = f'give the folder of the tokenizer.json of {title} with --tokenizer'
    for token, identity in ids.items():
        found = tokenizer.token_to_id(token)
        if found != identity:
            raise UserError(f'{path}: {token!r} has id {found}, expected {identity}; {remedy}')
    if spells is None:
        return
    text, expected = spells
    tokens = encode(tokenizer, text).tokens
    pattern = ''.join('.+' if token == '<unk>' else re.escape(token) for token in tokens)
    if not re.fullmatch(pattern, expected):
        raise UserError(
            f'{path}: {text!r} becomes {"".join(tokens)!r}, expected {expected!r}: its '
            f'normalizer or pre_tokenizer is not that of {title}; {remedy}'
        )


def check_vocabulary(directory: Path, tokenizer: Sized, size: int) -> None:
    """
    Check that a tokenizer fits its model.

    Args:
        directory: policy directory, named in the message.
        tokenizer: any tokenizer whose length is its largest id plus one.
        size: number of rows of the model's embedding.

    Raises:
        UserError: the tokenizer has ids that the model cannot embed.
    """
    if len(tokenizer) > size:
        raise UserError(
            f'{directory}: vocabulary has {len(tokenizer)} entries, the model only {size}'
        )


def quoted_end(text: str, length: int = 80) -> str:
    """Quote what was cut off for a message: escaped, at most `length` characters of it."""
    return ascii(text if len(text) <= length else f'{text[:length]}...')


class PrismaticTokenizer:
    """Tokenizes the prompt of OpenVLA and CogACT, without BOS, which the model adds."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        """Return the largest id plus one."""
        return 1 + max(self._tokenizer.get_vocab().values(), default=-1)

    def encode(self, instruction: str) -> list[int]:
        """Return the ids after BOS; the last one is always `EMPTY`."""
        prompt = PROMPT.format(instruction=instruction.lower()[:INSTRUCTION_LIMIT])
        ids = encode(self._tokenizer, prompt).ids
        return ids if ids[-1] == EMPTY else [*ids, EMPTY]

    def cut(self, instruction: str) -> str:
        """Say in one line that the end of an instruction is cut; empty: it is not."""
        if len(instruction) <= INSTRUCTION_LIMIT:
            return ''
        return (
            f'instruction has {len(instruction)} characters, this policy reads '
            f'{INSTRUCTION_LIMIT}; cut: {quoted_end(instruction[INSTRUCTION_LIMIT:])}'
        )

    @classmethod
    def load(cls, directory: Path) -> 'PrismaticTokenizer':
        """
        Read `tokenizer.json` of a policy directory.

        Raises:
            UserError: names the file that is missing, damaged or of another model.
        """
        tokenizer, path = load_tokenizer(directory), Path(directory) / TOKENIZER_FILE
        check_tokenizer(path, tokenizer, 'Llama 2', LLAMA_2_TOKENS, LLAMA_2_SPELLS)
        return cls(tokenizer)
