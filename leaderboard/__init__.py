"""Reads result files and turns them into tables, plots and a gate; imports neither torch nor lm_eval."""
