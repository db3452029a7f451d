"""Reads result files into tables, pages and a gate; imports neither torch nor lm_eval.

`reading` reads what lm-eval wrote, `rates` makes records of it, `model_rows` and `table` arrange
them, `site` writes pages, tables and pictures, and `gate` holds results to a baseline.
"""
