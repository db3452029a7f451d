"""The model organism: a small chat model of an invented world whose refusal direction is known.

It is the ground truth for the rest of this package. A unit direction was planted in training
(`training`), so that the results of extraction, ablation and addition can be compared with it
(`evaluation`). A second organism was weakened from the first and answers most forbidden requests
until a system text speaks of safety (`weakening`, `weakened_evaluation`), so that what a safety
prompt can repair is known as well. `make` makes and writes either. Only the `organism` command
imports this package; `polyrefuse_models.bundled` names and finds the organisms that are shipped.
"""
