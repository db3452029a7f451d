"""The base class of every error that a user can correct."""


class UserError(ValueError):
    """Bad input, described in one sentence: what was wrong, with the value, and what to do.

    The `polyrefuse` command prints the sentence and exits with code 2. Inside `lm_eval` the
    sentence is the whole message of the exception.
    """


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or its class where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
