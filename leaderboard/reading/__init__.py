"""Read what `lm_eval` wrote into runs.

`results.read` finds the files, reads and identifies them, and keeps each task once. `runs` has the
classes for what was read.
"""
