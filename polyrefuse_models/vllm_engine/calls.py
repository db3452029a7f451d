"""Calls from lm-eval's process to the workers that vLLM runs the model in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyrefuse_models.vllm_engine.plan import NotInVllm, Plan


def install(llm: Any, plan: Plan, folder: Path, probe: Sequence[int]) -> None:
    """Put a plan's hooks into every worker, and see that each one is called.

    Args:
        llm: vLLM's `LLM`.
        plan: with hooks.
        folder: where the plan is saved.
        probe: tokens of a prompt.

    Raises:
        NotInVllm: a module is nowhere, or vLLM runs the model without calling a hook.
    """
    hooked = {
        path
        for result in _call(llm, "polyrefuse_install", str(folder))
        for path in result["hooked"]
    }
    _require(plan, hooked, "was not found in vLLM's model")
    _ask(llm, probe)
    called = {
        path
        for result in _call(llm, "polyrefuse_calls")
        for path, times in result["calls"].items()
        if times
    }
    _require(plan, called, "is run by vLLM without its hook")
    # What was computed before, without the hooks, must answer nothing.
    if not llm.reset_prefix_cache():
        raise NotInVllm(
            "vLLM did not forget what it computed before the hooks were there; give "
            "enable_prefix_caching=False."
        )


def embedding_scale(llm: Any, path: str) -> float:
    """By what vLLM's model multiplies the embedding's rows before a prompt's vectors join them.

    Args:
        llm: vLLM's `LLM`.
        path: of the embedding.

    Raises:
        NotInVllm: it does more than multiply.
    """
    return float(_call(llm, "polyrefuse_embedding_scale", path)[0]["scale"])


def _call(llm: Any, method: str, *arguments: str) -> list[dict[str, Any]]:
    """What each worker returned.

    Raises:
        NotInVllm: one of them returned an error.
    """
    results: list[dict[str, Any]] = llm.collective_rpc(method, args=arguments)
    for rank, result in enumerate(results):
        if result["error"]:
            raise NotInVllm(
                f"vLLM's worker {rank} cannot do what was asked for ({result['error']}); take a "
                "Hugging Face model (--model ablated-hf and its siblings)."
            )
    return results


def _require(plan: Plan, found: set[str], fault: str) -> None:
    missing = [hook.module for hook in plan.hooks if hook.module not in found]
    if missing:
        raise NotInVllm(
            f"{missing[0]} {fault}, so that the intervention would not be whole ({len(missing)} of "
            f"{len(plan.hooks)}); take a Hugging Face model (--model ablated-hf and its siblings)."
        )


def _ask(llm: Any, prompt: Sequence[int]) -> None:
    import vllm

    settings = vllm.SamplingParams(temperature=0.0, max_tokens=1, detokenize=False)
    llm.generate([{"prompt_token_ids": list(prompt)}], settings, use_tqdm=False)
