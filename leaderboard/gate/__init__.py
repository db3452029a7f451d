"""Compare results with a baseline.

`comparison.check` compares, `baseline` reads and writes baselines, `reports` shows the outcome,
`power` computes what a gate can detect, and `pytest_plugin` runs the gate in pytest.
"""
