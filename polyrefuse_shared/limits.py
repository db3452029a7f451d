"""The largest numbers that a user may give."""

MOST_SEED = 2**32 - 1
"""The largest seed that numpy and scikit-learn take."""

MOST = 2**31 - 1
"""The largest count that every library takes."""
