"""The exception whose message is meant for the user, and values as such messages show them."""

from pathlib import Path
import reprlib
import traceback

LONGEST = 1000
"""Characters of a message; of a longer one the middle is left out."""
_END = 200
_SHOWN = 60
_DESCRIBED = 300


class UserError(Exception):
    """
    A mistake that the user can correct: a bad file, field, topic or argument.

    The message is one line. It names what is wrong, what was expected and what to do. Commands
    and nodes print it without a traceback.
    """

    def __str__(self) -> str:
        """Return the message; see `one_line`."""
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """
    Make a message fit for a line of a terminal or a log.

    Control characters, which a name in a file may have, are escaped. Of more than `LONGEST`
    characters, the middle is left out.
    """
    if len(text) > LONGEST:
        text = f'{text[: LONGEST - _END]} ... {text[-_END:]}'
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Shown(reprlib.Repr):
    """Values of any depth and size, cut; takes no longer for a large one."""

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write a number of thousands of digits.
        return repr(x) if x.bit_length() < 200 else f'a number of {x.bit_length()} bits'


_shown = _Shown()
_shown.maxlevel, _shown.maxstring, _shown.maxother = 2, _SHOWN, _SHOWN
_shown.maxlist = _shown.maxtuple = _shown.maxdict = _shown.maxset = 3


def shown(value: object) -> str:
    """Write a value that came from a file for a message: as `repr` does, but cut."""
    text = _shown.repr(value)
    return text if len(text) <= 2 * _SHOWN else f'{text[: 2 * _SHOWN]}...'


def describe(error: BaseException) -> str:
    """Describe an error in one line of printable characters: its type, text and place."""
    text = ascii(' '.join(str(error).split())[:_DESCRIBED])[1:-1]
    frames = traceback.extract_tb(error.__traceback__)
    place = f' ({Path(frames[-1].filename).name}:{frames[-1].lineno})' if frames else ''
    return f'{type(error).__name__}: {text}{place}'
