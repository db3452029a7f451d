"""Runs a judge's model with transformers: greedy, in batches of prompts of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
)
from transformers.utils import cached_file, extract_commit_hash

from polyrefuse_shared.errors import first_line
from polyrefuse_tasks.judge_engines.engine import CannotJudge, Loading, revision_of_weights
from polyrefuse_tasks.judge_engines.rendering import load_tokenizer, token_ids
from polyrefuse_tasks.judge_models.formats import Rendered


class TransformersEngine:
    """See `engine.Engine`.

    Raises:
        CannotJudge: the model cannot be loaded.
    """

    def __init__(self, loading: Loading) -> None:
        self.loading = loading
        device = loading.device or ("cuda" if torch.cuda.is_available() else "cpu")
        given = {"revision": loading.revision, "trust_remote_code": False}
        try:
            self.tokenizer: Any = load_tokenizer(loading)
            self.model: Any = _loaded(loading.model, dtype=loading.dtype, **given).to(device)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise CannotJudge(
                f"the judge's model {loading.model} cannot be loaded ({first_line(error)}); name a "
                "folder with --judge-model, or, where the hub asks for an agreement, accept it on "
                "the model's page and log in with `hf auth login`."
            ) from error
        self.model.eval()
        # `generate` fills what a call leaves out from the model's own settings, as PolyGuard-Qwen's
        # penalty of repetitions, which would decide its verdicts.
        ends = self.model.generation_config.eos_token_id
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self._filler,
        )
        self.revision = _revision(self.model, loading)

    @property
    def settings(self) -> dict[str, Any]:
        """As `Engine.settings`."""
        return {"engine": "transformers", "dtype": str(self.model.dtype)}

    def complete(
        self, prompts: Sequence[Rendered], max_new_tokens: int, *, special_tokens: bool = False
    ) -> list[str | None]:
        """As `Engine.complete`."""
        completions: list[str | None] = [None] * len(prompts)
        for places, ids in self._batches(prompts, max_new_tokens):
            if max_new_tokens == 1:
                written = self._next_logits(ids).argmax(-1, keepdim=True)
            else:
                written = self._generated(ids, max_new_tokens)
            texts = self.tokenizer.batch_decode(written, skip_special_tokens=not special_tokens)
            for place, text in zip(places, texts, strict=True):
                completions[place] = text
        return completions

    def expected_number(self, prompts: Sequence[Rendered], numbers: Sequence[str]) -> list[float]:
        """As `Engine.expected_number`.

        Raises:
            CannotJudge: a number is no token of the model.
        """
        tokens = [self.tokenizer(number, add_special_tokens=False).input_ids for number in numbers]
        if any(len(ids) != 1 for ids in tokens):
            raise CannotJudge(
                f"the tokenizer of {self.loading.model} writes one of {', '.join(numbers)} in "
                "several tokens; name weights of the judge's own kind."
            )
        values = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
        expected = [float("nan")] * len(prompts)
        for places, ids in self._batches(prompts, 1):
            logits = self._next_logits(ids)[:, [token for (token,) in tokens]]
            means = logits.double().softmax(-1).cpu() @ values
            for place, mean in zip(places, means.tolist(), strict=True):
                expected[place] = mean
        return expected

    def _batches(
        self, prompts: Sequence[Rendered], max_new_tokens: int
    ) -> Iterator[tuple[list[int], list[list[int]]]]:
        """Places and token ids of prompts that fit the context, of like length side by side."""
        every = [token_ids(self.tokenizer, prompt) for prompt in prompts]
        text = self.model.config.get_text_config()
        most = getattr(text, "max_position_embeddings", None) or float("inf")
        fitting = [place for place, ids in enumerate(every) if len(ids) + max_new_tokens <= most]
        fitting.sort(key=lambda place: len(every[place]))
        size = self.loading.batch_size
        for begin in range(0, len(fitting), size):
            places = fitting[begin : begin + size]
            yield places, [every[place] for place in places]

    def _padded(self, ids: list[list[int]]) -> dict[str, torch.Tensor]:
        width = max(map(len, ids))
        filler = self._filler
        rows = [[filler] * (width - len(row)) + row for row in ids]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
        device = self.model.device
        return {
            "input_ids": torch.tensor(rows, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }

    @property
    def _filler(self) -> int:
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        return int(pad if pad is not None else end or 0)

    @torch.no_grad()
    def _next_logits(self, ids: list[list[int]]) -> torch.Tensor:
        """Logits of the token that follows each prompt, [prompt, vocabulary]."""
        inputs = self._padded(ids)
        positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        found = self.model(**inputs, position_ids=positions, logits_to_keep=1, use_cache=False)
        logits: torch.Tensor = found.logits[:, -1]
        return logits

    @torch.no_grad()
    def _generated(self, ids: list[list[int]], max_new_tokens: int) -> torch.Tensor:
        inputs = self._padded(ids)
        written: torch.Tensor = self.model.generate(**inputs, max_new_tokens=max_new_tokens)
        return written[:, inputs["input_ids"].shape[1] :]


def _loaded(model: str, **given: Any) -> Any:
    """The weights, by the class that writes text: a few judges, as Shieldstral, know pictures."""
    try:
        return AutoModelForCausalLM.from_pretrained(model, **given)
    except ValueError as unknown:
        try:
            return AutoModelForImageTextToText.from_pretrained(model, **given)
        except ValueError:
            raise unknown from None


def _revision(model: Any, loading: Loading) -> str:
    """Of the weights; of an adapter, which has no configuration of the model, and of its base."""
    commit = getattr(model.config, "_commit_hash", None)
    for adapter in getattr(model, "peft_config", {}).values():
        file = cached_file(loading.model, "adapter_config.json", revision=loading.revision)
        own = revision_of_weights(loading.model, extract_commit_hash(file, None))
        return f"{own} on {revision_of_weights(adapter.base_model_name_or_path, commit)}"
    return revision_of_weights(loading.model, commit)
