"""The classes behind `--model baseline-hf` and the other models that lm-eval gets from us."""
