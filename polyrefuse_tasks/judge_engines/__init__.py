"""Engines of model judges: what loads a judge's model and runs it on a batch.

This folder stands above `judges/`, and it alone of `polyrefuse_tasks` may import torch and vLLM for
judging. It imports `judges/` for the contract; nothing in `judges/` imports it: a model judge is
found by its entry in the registry, and its engine is loaded with the first batch.
"""
