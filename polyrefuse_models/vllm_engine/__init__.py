"""Interventions inside vLLM: the plan before its engine starts, and the work of its workers.

`plan` and `checkpoint` need transformers, but not vLLM. vLLM imports `loader` and `worker` in its
own processes. The models that lm-eval knows by name are in `wrappers/vllm.py`.
"""
