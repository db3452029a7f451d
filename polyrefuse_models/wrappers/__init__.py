"""The classes behind `--model baseline-hf` and the other models that we add to lm-eval."""
