"""The prompts, judges and metrics of the tasks, and the functions that the task YAML calls."""
