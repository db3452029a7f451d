"""Import published answers into the files that lm-eval and our judges write.

Each module reads one format, and `saving` writes the files.
"""
