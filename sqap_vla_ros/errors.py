"""The one exception that users see."""


class UserError(Exception):
    """
    Something that the user can mend: a bad file, field, topic or argument.

    The message is one line that names what is wrong, what was expected and what to do.
    Command lines and nodes print it without a traceback.
    """
