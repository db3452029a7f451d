"""The tasks' YAML, written by `python -m polyrefuse_tasks.configs`."""
