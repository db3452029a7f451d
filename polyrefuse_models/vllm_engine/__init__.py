"""Interventions inside vLLM: what is planned before its engine starts, and what its workers do.

`plan` and `checkpoint` need transformers and no vLLM; `loader` and `worker` are imported by vLLM in
its own processes. `wrappers/vllm.py` is what lm-eval names.
"""
