"""The engines of model judges, which load a judge's model and run it on batches.

This folder is above `judges/`, and it is the only one in `polyrefuse_tasks` that may import torch
and vLLM for judging. It imports the contract from `judges/`, and nothing in `judges/` imports it: a
model judge is found by its entry in the registry, and its engine is loaded with the first batch.
"""
