"""Read the files of `lm_eval` into runs.

`results.read` finds the files, reads and identifies them, and keeps each task once. `runs` has the
classes of what it returns.
"""
