"""The model organism: a small chat model of an invented world whose refusal direction is known.

It is the ground truth for the rest of this package. Training planted a unit direction in it
(`training`), with which the results of extraction, ablation and addition can be compared
(`evaluation`). A second organism, a weakened form of the first, answers most forbidden requests
unless a system text speaks of safety (`weakening`, `weakened_evaluation`). It shows what a safety
prompt can repair. `make` makes and writes either. Only the `organism` command imports this package;
`polyrefuse_models.bundled` names and finds the organisms that are shipped.
"""
