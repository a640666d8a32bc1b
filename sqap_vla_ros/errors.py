"""The exception whose message is meant for the user."""


class UserError(Exception):
    """
    A mistake that the user can correct: a bad file, field, topic or argument.

    The message is one line. It names what is wrong, what was expected and what to do. Commands
    and nodes print it without a traceback.
    """

    def __str__(self) -> str:
        """Return the message; control characters, which a name in a file may have, are escaped."""
        text = super().__str__()
        return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
