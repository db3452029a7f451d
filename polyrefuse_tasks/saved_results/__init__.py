"""Find and read what lm-eval saved: results_*.json, samples_*.jsonl, and the labels beside them."""
