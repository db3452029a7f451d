"""Whole studies: every condition of every model from one file, and the report on them."""
