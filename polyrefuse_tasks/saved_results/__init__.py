"""What lm-eval saved, found and read: results_*.json, samples_*.jsonl, and labels beside them."""
