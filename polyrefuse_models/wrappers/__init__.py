"""lm-eval model classes: what `--model baseline-hf` and its siblings name."""
