"""The model organism: a small chat model of an invented world whose refusal direction is known.

Ground truth for everything else: a unit direction was planted at training (`training`), so that
what extraction finds, and what ablation and addition do, can be compared with what is there.
A second one, weakened from the first, lets most forbidden requests pass until a system text speaks
of safety (`weakening`): what a safety prompt can repair is known as well.
"""
