"""Results held to a baseline: `comparison.check` compares, `baseline` reads and writes what is held
to, `reports` shows the outcome, `power` says what a gate can see, and `pytest_plugin` runs it.
"""
