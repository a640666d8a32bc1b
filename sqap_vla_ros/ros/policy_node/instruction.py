"""Instructions from users: limited in length, in words that the policy knows, safe to log."""

from collections.abc import Callable, Sequence
import unicodedata

from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from sqap_vla_ros.errors import UserError
from sqap_vla_ros.models.preprocessing.words import check_words, describe_unknown

HEADER_BYTES = 100
"""More than a serialized std_msgs/String has around its text."""
MAX_WARNINGS = 50
"""Unknown words, and cut instructions, that are warned about until the policy is loaded again."""


def read_instruction(serialized: bytes, max_length: int) -> str:
    """
    Read an instruction from a topic; see `clean_instruction`.

    Args:
        serialized: std_msgs/String, not read yet.
        max_length: Longest accepted instruction, characters.

    Raises:
        UserError: It is too long, empty after normalisation, or no text.
    """
    # A character has up to four bytes; a text of many megabytes is not even made a string.
    if len(serialized) > 4 * max_length + HEADER_BYTES:
        raise UserError(
            f'instruction has {len(serialized)} bytes, at most {max_length} characters are '
            'accepted (parameter max_instruction_length)'
        )
    try:
        text = deserialize_message(serialized, String).data
    except Exception:
        raise UserError('instruction cannot be read: the message is damaged') from None
    return clean_instruction(text, max_length)


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


class Vocabulary:
    """
    The words that the loaded policy knows, which not every policy has a list of.

    Args:
        words: In lower case; empty: the policy reads any text.
        most: How many words of an instruction it reads; 0: all of them.
        warn: Called with one line for each unknown word and each cut instruction, once.
    """

    def __init__(
        self,
        words: Sequence[str] = (),
        most: int = 0,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._words, self._most, self._warn = words, most, warn
        self._warned: set[str] = set()

    def check(self, instruction: str) -> None:
        """
        Check that the policy can follow an instruction, and warn about unknown words.

        Raises:
            UserError: The policy knows none of its words, or there are more than it reads.
        """
        for word in check_words(instruction, self._words, self._most):
            self._once(word, describe_unknown(word, self._words))

    def tell(self, note: str) -> None:
        """Warn about what a policy says of an instruction (`Inference.note`), once."""
        if note:
            self._once(note, note)

    def _once(self, what: str, line: str) -> None:
        if what not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(what)
            self._warn(line)
