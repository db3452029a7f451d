"""How much a study asks of its models, and how long it takes: what `polyrefuse study plan` says."""
