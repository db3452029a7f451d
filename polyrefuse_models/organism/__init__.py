"""The model organism: a small chat model of an invented world whose refusal direction is known.

It is the ground truth for everything else: a unit direction was planted in training (`training`),
so that the results of extraction, ablation and addition can be compared with it (`evaluation`).
A second organism, weakened from the first, answers most forbidden requests until a system text
speaks of safety (`weakening`, `weakened_evaluation`): what a safety prompt can repair is known as
well. `make` makes and writes either. Nothing but the `organism` command imports this package: what
names and finds the shipped ones is `polyrefuse_models.bundled`.
"""
