"""What `lm_eval` wrote, as runs: `results.read` finds the files, reads and identifies them, and
keeps each task once; `runs` has the words for it.
"""
