"""Instructions from users: limited in length, and safe to log."""

import unicodedata

from sqap_vla_ros.errors import UserError


def clean_instruction(text: str, max_length: int) -> str:
    """
    Normalise an instruction: NFKC, control characters to spaces, runs of spaces to one.

    Special tokens in it stay text: the tokenizers of this package never parse them.

    Args:
        text: Instruction as received.
        max_length: Longest accepted instruction, characters.

    Returns:
        The normalised instruction.

    Raises:
        UserError: It is too long, or empty after normalisation.
    """
    if len(text) > max_length:
        raise UserError(
            f'instruction has {len(text)} characters, at most {max_length} are '
            'accepted (parameter max_instruction_length)'
        )
    printable = ''.join(
        ' ' if unicodedata.category(c)[0] == 'C' else c
        for c in unicodedata.normalize('NFKC', text)
    )
    cleaned = ' '.join(printable.split())
    if not cleaned:
        raise UserError("instruction is empty; expected words, for example 'open the drawer'")
    return cleaned[:max_length].rstrip()


def quoted(text: str, length: int = 80) -> str:
    """Quote an instruction for a log line: escaped, and cut to `length` characters."""
    return ascii(text if len(text) <= length else text[:length] + '...')
