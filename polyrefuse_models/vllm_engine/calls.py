"""Call the workers in which vLLM runs the model, from lm-eval's process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyrefuse_models.vllm_engine.plan import NotInVllm, Plan


def install(llm: Any, plan: Plan, folder: Path, probe: Sequence[int]) -> None:
    """Put a plan's hooks into every worker, and check that each hook is called.

    Args:
        llm: vLLM's `LLM`.
        plan: a plan with hooks.
        folder: the folder that the plan is saved in.
        probe: the token ids of a prompt.

    Raises:
        NotInVllm: no worker has one of the modules, or vLLM runs the model without calling a hook.
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
    # Keys and values that were computed without the hooks must not serve an answer.
    if not llm.reset_prefix_cache():
        raise NotInVllm(
            "vLLM did not clear its prefix cache, which was computed without the intervention; "
            "give enable_prefix_caching=False."
        )


def embedding_scale(llm: Any, path: str) -> float:
    """Return the factor by which vLLM's model multiplies the rows of its embedding.

    vLLM puts a soft prompt's vectors among the rows after this multiplication.

    Args:
        llm: vLLM's `LLM`.
        path: the path of the embedding.

    Raises:
        NotInVllm: the model does more than multiply.
    """
    return float(_call(llm, "polyrefuse_embedding_scale", path)[0]["scale"])


def _call(llm: Any, method: str, *arguments: str) -> list[dict[str, Any]]:
    """Call a method of every worker, and return their results.

    Raises:
        NotInVllm: a worker returned an error.
    """
    results: list[dict[str, Any]] = llm.collective_rpc(method, args=arguments)
    for rank, result in enumerate(results):
        if result["error"]:
            raise NotInVllm(
                f"vLLM's worker {rank} cannot do the intervention ({result['error']}); use a "
                "Hugging Face model, such as --model ablated-hf."
            )
    return results


def _require(plan: Plan, found: set[str], fault: str) -> None:
    missing = [hook.module for hook in plan.hooks if hook.module not in found]
    if missing:
        raise NotInVllm(
            f"{missing[0]} {fault}, so the intervention would be incomplete ({len(missing)} of "
            f"{len(plan.hooks)} hooks); use a Hugging Face model, such as --model ablated-hf."
        )


def _ask(llm: Any, prompt: Sequence[int]) -> None:
    import vllm

    settings = vllm.SamplingParams(temperature=0.0, max_tokens=1, detokenize=False)
    llm.generate([{"prompt_token_ids": list(prompt)}], settings, use_tqdm=False)
