"""What `lm_eval` wrote, as runs: files found, read, identified, each task once."""
