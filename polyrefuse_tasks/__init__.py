"""The Python behind the tasks: prompts, judges, metrics, and the functions that task YAML calls."""
