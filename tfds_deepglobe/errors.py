"""The errors that a user can mend."""


class InputError(ValueError):
    """What the user gave cannot be used; the message says how to mend it.

    Command lines print its message as one line and exit with code 2. Every other exception is a
    defect and keeps its traceback.
    """


class UnknownColorError(InputError):
    """A mask holds colours that no class has."""
