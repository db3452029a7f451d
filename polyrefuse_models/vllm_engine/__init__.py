"""Interventions inside vLLM: the plan before its engine starts, and the work of its workers.

`plan` and `checkpoint` need transformers and not vLLM. vLLM imports `loader` and `worker` in its
own processes. The models that lm-eval names are in `wrappers/vllm.py`.
"""
