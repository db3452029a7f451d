"""The one base class of every mistake that a user can mend."""


class UserError(ValueError):
    """Bad input, said in one sentence: what was wrong, with the value, and what to do.

    The `polyrefuse` command prints the sentence and exits with 2; inside `lm_eval` it is the
    exception's whole message.
    """
