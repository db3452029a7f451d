"""The executors: where the jobs of a study run."""
