"""Run a judge's model with vLLM, if it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyrefuse_tasks.judge_engines.engine import (
    CannotJudge,
    Loading,
    advice_after,
    reason_of,
    revision_of_weights,
)
from polyrefuse_tasks.judge_engines.rendering import load_tokenizer, token_ids
from polyrefuse_tasks.judge_models.formats import Rendered


class VllmEngine:
    """The engine that uses vLLM; see `engine.Engine`.

    Raises:
        CannotJudge: vLLM is not installed, or cannot load the model.
    """

    def __init__(self, loading: Loading) -> None:
        try:
            import vllm
        except ImportError:
            raise CannotJudge(
                "vLLM is not installed: run `pip install 'lm-eval-polyrefuse[vllm]'`, or use "
                "--engine transformers."
            ) from None
        self.loading = loading
        try:
            self.tokenizer: Any = load_tokenizer(loading)
            self.llm: Any = vllm.LLM(
                model=loading.model,
                revision=loading.revision,
                dtype=loading.dtype,
                trust_remote_code=False,
            )
        except Exception as error:
            # vLLM, torch, transformers and safetensors each raise errors of their own.
            raise CannotJudge(
                f"vLLM cannot load the judge's model {loading.model} ({reason_of(error)}); "
                f"{advice_after(error)}, or use --engine transformers."
            ) from error
        self.sampling: Any = vllm.SamplingParams
        self.settings: dict[str, Any] = {
            "engine": f"vllm {vllm.__version__}",
            "dtype": str(self.llm.llm_engine.model_config.dtype),
        }
        self.revision = revision_of_weights(loading.model, loading.revision)

    def complete(
        self, prompts: Sequence[Rendered], max_new_tokens: int, *, special_tokens: bool = False
    ) -> list[str | None]:
        """See `Engine.complete`; vLLM forms the batches itself."""
        most = self.llm.llm_engine.model_config.max_model_len
        every = [token_ids(self.tokenizer, prompt) for prompt in prompts]
        fitting = [place for place, ids in enumerate(every) if len(ids) + max_new_tokens <= most]
        completions: list[str | None] = [None] * len(prompts)
        try:
            outcomes = self.llm.generate(
                [{"prompt_token_ids": every[place]} for place in fitting],
                self.sampling(temperature=0.0, max_tokens=max_new_tokens),
                use_tqdm=False,
            )
        except Exception as error:
            # Its engine raises errors of its own and those of torch.
            raise CannotJudge(
                f"vLLM cannot run the judge's model {self.loading.model} ({reason_of(error)}); "
                "name other weights with --judge-model, or use --engine transformers."
            ) from error
        for place, outcome in zip(fitting, outcomes, strict=True):
            # The text that vLLM decodes leaves out the bytes of an incomplete character.
            written = outcome.outputs[0].token_ids
            completions[place] = self.tokenizer.decode(
                written, skip_special_tokens=not special_tokens
            )
        return completions

    def expected_number(self, prompts: Sequence[Rendered], numbers: Sequence[str]) -> list[float]:
        """Refuse, because vLLM gives no logits of chosen tokens.

        Raises:
            CannotJudge: always.
        """
        raise CannotJudge(
            "This judge reads logits, which vLLM does not give: use --engine transformers."
        )
