"""The one base class of every mistake that a user can mend."""


class UserError(ValueError):
    """Bad input, said in one sentence: what was wrong, with the value, and what to do.

    The `polyrefuse` command prints the sentence and exits with 2; inside `lm_eval` it is the
    exception's whole message.
    """


def first_line(error: Exception) -> str:
    """What another library's exception says, in one line; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
