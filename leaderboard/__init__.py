"""Turn result files into tables, pages and a gate, without importing torch or lm_eval.

`reading` reads what lm-eval wrote, `rates` turns it into records, `model_rows` and `table` arrange
them, `site` writes pages, tables and pictures, and `gate` compares results with a baseline.
"""
