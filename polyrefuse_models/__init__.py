"""Model wrappers for lm-eval, interventions on the residual stream, and refusal directions."""
