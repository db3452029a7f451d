"""Reads result files into tables, plots and a gate; imports neither torch nor lm_eval."""
