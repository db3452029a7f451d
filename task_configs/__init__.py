"""The YAML of the tasks, which `python -m polyrefuse_tasks.configs` writes."""
