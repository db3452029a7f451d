"""Answers that others published, brought into the files that lm-eval and our judges write.

Each file reads one format; `saving` writes what they return.
"""
