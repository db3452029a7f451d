"""Model wrappers for lm-eval, interventions on the residual stream, and refusal directions.

PYTEST_DONT_REWRITE: the package is imported before pytest, and it comes with a pytest plug-in.
Without this word pytest would warn about that in every run.
"""
