"""Model wrappers for lm-eval, interventions on the residual stream, and refusal directions.

PYTEST_DONT_REWRITE: a plugin of pytest's comes with this package, which is imported before pytest;
without this word pytest would warn of that in every run.
"""
