"""Run a judge's model with transformers, with greedy decoding in batches of similar length."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
)
from transformers.utils import cached_file, extract_commit_hash, logging

from polyrefuse_tasks.judge_engines.engine import (
    CannotJudge,
    Loading,
    advice_after,
    reason_of,
    revision_of_weights,
)
from polyrefuse_tasks.judge_engines.rendering import load_tokenizer, token_ids
from polyrefuse_tasks.judge_models.formats import Rendered


class TransformersEngine:
    """The engine that uses transformers; see `engine.Engine`.

    Raises:
        CannotJudge: the model cannot be loaded, its weights do not fit its configuration, or there
            is no such device.
    """

    def __init__(self, loading: Loading) -> None:
        self.loading = loading
        device = loading.device or ("cuda" if torch.cuda.is_available() else "cpu")
        _check_device(device)
        try:
            with _quietly():
                self.tokenizer: Any = load_tokenizer(loading)
                self.model: Any = _loaded(loading)
            self.model.to(device).eval()
            text = self.model.config.get_text_config()
            self.most = float(getattr(text, "max_position_embeddings", None) or "inf")
            # `generate` takes missing settings from the model's own, such as the repetition penalty
            # of PolyGuard-Qwen, which would decide its verdicts.
            self.model.generation_config = GenerationConfig(
                do_sample=False, eos_token_id=self._ends(), pad_token_id=self._filler
            )
            self.revision = _revision(self.model, loading)
        except CannotJudge:
            raise
        except torch.OutOfMemoryError as error:
            raise CannotJudge(
                f"The judge's model {loading.model} does not fit on the device {device} "
                f"({reason_of(error)}); name another --device, a smaller --dtype, or smaller "
                "weights with --judge-model."
            ) from error
        except Exception as error:
            # torch, transformers, tokenizers and safetensors each raise errors of their own.
            raise CannotJudge(
                f"The judge's model {loading.model} cannot be loaded ({reason_of(error)}); "
                f"{advice_after(error)}."
            ) from error

    def _ends(self) -> Any:
        """Return the tokens that end a completion.

        Raises:
            CannotJudge: they are not tokens, so `generate` would fail at the first answer.
        """
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            return self.tokenizer.eos_token_id
        if not all(type(end) is int for end in (ends if isinstance(ends, list) else [ends])):
            raise CannotJudge(
                f"The generation settings of the judge's model {self.loading.model} have "
                f"eos_token_id {ends!r}, which is not the number of a token; correct them, or name "
                "other weights with --judge-model."
            )
        return ends

    @property
    def settings(self) -> dict[str, Any]:
        """See `Engine.settings`."""
        return {"engine": "transformers", "dtype": str(self.model.dtype)}

    def complete(
        self, prompts: Sequence[Rendered], max_new_tokens: int, *, special_tokens: bool = False
    ) -> list[str | None]:
        """See `Engine.complete`."""
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
        """See `Engine.expected_number`.

        Raises:
            CannotJudge: a number is not one token of the model.
        """
        tokens = [self.tokenizer(number, add_special_tokens=False).input_ids for number in numbers]
        if any(len(ids) != 1 for ids in tokens):
            raise CannotJudge(
                f"The tokenizer of {self.loading.model} writes one of {', '.join(numbers)} in "
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
        """Yield batches of prompts of similar length that fit the context: places and token ids."""
        every = [token_ids(self.tokenizer, prompt) for prompt in prompts]
        fitting = [
            place for place, ids in enumerate(every) if len(ids) + max_new_tokens <= self.most
        ]
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
        """Return the logits of the token that follows each prompt, [prompt, vocabulary]."""
        inputs = self._padded(ids)
        positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        with self._running():
            found = self.model(**inputs, position_ids=positions, logits_to_keep=1, use_cache=False)
        logits: torch.Tensor = found.logits[:, -1]
        return logits

    @torch.no_grad()
    def _generated(self, ids: list[list[int]], max_new_tokens: int) -> torch.Tensor:
        inputs = self._padded(ids)
        with self._running():
            written: torch.Tensor = self.model.generate(**inputs, max_new_tokens=max_new_tokens)
        return written[:, inputs["input_ids"].shape[1] :]

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Turn errors of the model into one sentence, because the fault is not in this package.

        Raises:
            CannotJudge: any error was raised within.
        """
        model, size = self.loading.model, self.loading.batch_size
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise CannotJudge(
                f"The judge's model {model} runs out of memory with --batch-size {size} "
                f"({reason_of(error)}); take a smaller batch, or a --device with more memory."
            ) from error
        except Exception as error:
            # Each architecture and the kernels of each device raise errors of their own.
            raise CannotJudge(
                f"The judge's model {model} cannot run ({reason_of(error)}); name other weights "
                "with --judge-model, another --dtype or another --device."
            ) from error


def _check_device(device: str) -> None:
    """Refuse a device from which no number can be read: `meta`, or a GPU that does not exist."""
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:
        # Each kind of device raises an error of its own, such as an AssertionError.
        raise CannotJudge(
            f"--device {device} cannot be used here ({reason_of(error)}); name one that torch "
            "finds, such as cpu or cuda:0."
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence transformers' table of missing tensors, which `_check_tensors` reports in a sentence.

    Its progress bars are shown only in a terminal, like those of this package.
    """
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _loaded(loading: Loading) -> Any:
    """Load the weights.

    Raises:
        CannotJudge: they do not fit their configuration.
        Exception: any error of transformers.
    """
    given = {"revision": loading.revision, "trust_remote_code": False}
    model, report = _from_pretrained(loading.model, dtype=loading.dtype, **given)
    _check_tensors(loading.model, model, report)
    # The loading report of an adapter leaves out its base, whose tensors are checked separately.
    for adapter in getattr(model, "peft_config", {}).values():
        inside = (Path(loading.model) / "config.json").is_file()
        base = loading.model if inside else adapter.base_model_name_or_path
        # The name of a missing folder keeps transformers from loading the adapter.
        alone = {"device_map": "meta", "adapter_kwargs": {"subfolder": "none"}}
        if getattr(model, "hf_quantizer", None) is None:
            _check_tensors(base, *_from_pretrained(base, **alone, **given))
    return model


def _from_pretrained(model: str, **given: Any) -> tuple[Any, Mapping[str, Any]]:
    """Load the weights with the class that writes text, and return the report on their tensors.

    A few judges, such as Shieldstral, also read pictures.
    """
    # Without these arguments, tensors of another shape are an error that does not name them.
    given |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    found: Any  # Its declared type is that of a model without the report.
    try:
        found = AutoModelForCausalLM.from_pretrained(model, **given)
    except ValueError as unknown:
        try:
            found = AutoModelForImageTextToText.from_pretrained(model, **given)
        except ValueError:
            raise unknown from None
    return found


def _check_tensors(name: str, model: Any, report: Mapping[str, Any]) -> None:
    """Refuse incomplete weights, because transformers fills missing tensors with random numbers.

    Args:
        name: the name of the weights.
        model: the loaded model.
        report: the loading report of transformers, in which tied tensors are not missing.

    Raises:
        CannotJudge: tensors are missing, have other shapes, or belong to layers that the
            configuration does not have.
    """
    ours = {_of_any_layer(tensor) for tensor in model.state_dict()}
    # Other tensors belong to parts that are not loaded, such as Llama Guard 4's vision model.
    more = [tensor for tensor in report["unexpected_keys"] if _of_any_layer(tensor) in ours]
    shapes = [
        f"{tensor} ({list(found)} and not {list(asked)})"
        for tensor, found, asked in report["mismatched_keys"]
    ]
    for tensors, fault in (
        (report["missing_keys"], "lack tensors that their configuration asks for"),
        (shapes, "have tensors of shapes that their configuration does not ask for"),
        (more, "have more layers than their configuration"),
    ):
        if tensors:
            raise CannotJudge(
                f"The weights of the judge's model {name} {fault}: {len(tensors)}, such as "
                f"{', '.join(sorted(tensors)[:3])}; name complete weights with --judge-model."
            )


def _of_any_layer(tensor: str) -> str:
    return re.sub(r"\b\d+\b", "*", tensor)


def _revision(model: Any, loading: Loading) -> str:
    """Return the revision of the weights, or of an adapter and of its base."""
    commit = getattr(model.config, "_commit_hash", None)
    for adapter in getattr(model, "peft_config", {}).values():
        file = cached_file(loading.model, "adapter_config.json", revision=loading.revision)
        own = revision_of_weights(loading.model, extract_commit_hash(file, None))
        return f"{own} on {revision_of_weights(adapter.base_model_name_or_path, commit)}"
    return revision_of_weights(loading.model, commit)
