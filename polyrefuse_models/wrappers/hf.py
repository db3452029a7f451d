"""lm-eval's HFLM for refusal safety: the classes behind `baseline-hf` and the other names.

Every argument of HFLM works. This module has what is specific to HFLM; what all engines share is in
`measured`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn import functional

from polyrefuse_models import bundled
from polyrefuse_models.anatomy import input_device
from polyrefuse_models.chat_model import ChatModel, extraction_rows
from polyrefuse_models.gguf_checkpoint import remember_file
from polyrefuse_models.neutral_generation import neutralise, settings_of
from polyrefuse_models.wrappers import identity, ranks
from polyrefuse_models.wrappers.asked import AskedAblation, AskedAddition, AskedMcd
from polyrefuse_models.wrappers.batching import Batching, parse_batching
from polyrefuse_models.wrappers.generation_settings import effective
from polyrefuse_models.wrappers.measured import Measured

if TYPE_CHECKING:
    from jaxtyping import Int
    from lm_eval.api.instance import Instance
    from torch import Tensor
    from transformers import PreTrainedModel


class BaselineHF(Measured, HFLM):
    """`baseline-hf`: a chat model without an intervention.

    Args:
        pretrained: a model as HFLM takes it, or the name of a bundled organism. The default is
            `polyrefuse-organism`.
        chat: "on" applies the tokenizer's chat template to `generate_until` requests even without
            lm-eval's `--apply_chat_template`; "off" leaves them as they are. Log-likelihood
            requests stay as lm-eval makes them.
        system: "template" keeps the system text that the chat template inserts by itself; "none"
            removes it.
        system_file: a UTF-8 file with the text of the system turn, instead of `system`.
        batching: "static" answers `generate_until` requests in lm-eval's batches; "continuous"
            gives an answer's place to the next prompt as soon as the answer ends; "auto" uses
            continuous batching on CUDA if it gives the same answers.
        arguments: the arguments of the model name itself (`asks`), and every other argument of
            HFLM.

    Raises:
        UserError: an argument cannot be used, or lm-eval adds a system instruction although there
            is no template, or although the file has a system text already.
    """

    # HFLM sets this attribute without annotating it.
    think_end_token: str | int | None

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        chat: str = "on",
        system: str | None = "template",
        system_file: str | None = None,
        batching: str = "auto",
        **arguments: Any,
    ) -> None:
        self.batching = Batching(self, parse_batching(batching))
        self.read_asked(pretrained, arguments, chat=chat, system=system, system_file=system_file)
        self._load(self._folder(pretrained), arguments)
        think_end_token, self.think_end_token = self.think_end_token, None
        self._prepare(
            self.tokenizer,
            template_arguments=self.chat_template_args,
            think_end_token=think_end_token,
        )
        self._set_aside(neutralise(self.model))
        self.ranks.agree(self._intervened)

    def _load(self, pretrained: str | PreTrainedModel, arguments: dict[str, Any]) -> None:
        """Load the model as HFLM does.

        Raises:
            UserError: the model is split among processes.
        """
        if arguments.get("device") is None:
            # HFLM's own default is a GPU, even if there is none.
            arguments["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        ranks.prepare(arguments["device"])
        self.model_arguments = identity.model_arguments(arguments)
        HFLM.__init__(self, pretrained=pretrained, **arguments)
        self.ranks = ranks.ranks_of(getattr(self, "accelerator", None))
        self._rank, self._world_size = self.ranks.own, self.ranks.count
        remember_file(self.model, arguments.get("gguf_file"))

    def _intervened(self) -> dict[str, Any]:
        """Install the interventions, and return the model's identity with them.

        Directions are extracted before anything is installed.
        """
        interventions = self._with_system_file(self.asked.fit(self))
        if any(intervention.edits_weights for intervention in interventions):
            _ = self.weights  # The identity of the weights as loaded is taken before the edit.
        for intervention in interventions:
            intervention.install(self.model)
        self._put_in_front(interventions)
        return self.identity()

    # --- what results say

    def get_model_info(self) -> dict[str, Any]:
        """Return HFLM's information, what was done to the model, and warnings for the reader."""
        return super().get_model_info() | self.measured() | {"batching": list(self.notes.batching)}

    def identity(self) -> dict[str, Any]:
        """Return what an answer depends on beside the request: model, condition, settings."""
        return identity.identity(self, self.prompting, self.interventions, self.reasoning.end)

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings that every answer of the run was made with."""
        return effective(settings_of(self.model), self.notes.settings)

    @cached_property
    def weights(self) -> str:
        """The identity of the weights that were loaded."""
        return identity.weights_of(self)

    @property
    def model_name(self) -> str:
        """The model's name in results."""
        return bundled.name_of(self.model.config.name_or_path)

    @property
    def own_dataset(self) -> str:
        """The default dataset: `toyrefuse` for a bundled organism, otherwise `polyrefuse`."""
        return bundled.own_dataset(self.pretrained)

    @property
    def own_model(self) -> bool:
        """Whether the model was loaded here and does not belong to the caller."""
        return isinstance(self.pretrained, str)

    @property
    def chat_model(self) -> ChatModel:
        """The model that directions are extracted from, with prompts as in `generate_until`."""
        rows = extraction_rows(self.batch_size, input_device(self.model))
        return self.prompting.chat_model(self.model, self.tok_batch_encode, rows)

    @contextmanager
    def whole_model(self) -> Iterator[ChatModel]:
        """Yield `chat_model`, whose weights are the model's own already."""
        yield self.chat_model

    # --- how a prompt reaches the model

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids that the model reads for a rendered prompt, with the text in front."""
        return self.tok_batch_encode([text])[0][0].tolist()

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]:
        """Encode as HFLM does, but put a PEFT prompt between the padding and each text."""
        ids, mask = super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
        if not self.prompting.foremost:
            return ids, mask
        front = torch.tensor([self.prompting.foremost], dtype=ids.dtype)
        first = mask.argmax(dim=-1, keepdim=True)
        columns = first + torch.arange(front.shape[1])
        ids, mask = (functional.pad(x, (front.shape[1], 0)) for x in (ids, mask))
        ids[:, : front.shape[1]] = self.tokenizer.pad_token_id
        return ids.scatter(1, columns, front.expand_as(columns)), mask.scatter(1, columns, 1)

    # --- requests

    @property
    def _refuses_long_prompts(self) -> bool:
        return super()._refuses_long_prompts and self.backend == "causal"

    def _answers(self, rendered: list[Instance], disable_tqdm: bool) -> list[str]:
        """Answer requests in HFLM's batches or by continuous batching.

        Raises:
            UserError: batching=continuous is not possible.
        """
        static = partial(HFLM.generate_until, self)
        return self.batching.answer(rendered, static, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Score requests as HFLM does, with the safety prompt in front of every context.

        If a token begins every text, the safety prompt follows this token.

        Raises:
            UserError: a request is longer than the window. HFLM would cut off its beginning.
        """
        requests = self._behind_the_front(requests)
        return HFLM._loglikelihood_tokens(self, requests, disable_tqdm, override_bs)

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Decode as HFLM does. With `think_end_token`, return only what follows the reasoning."""
        if not skip_special_tokens or not isinstance(tokens, list):
            return super().tok_decode(tokens, skip_special_tokens)
        return self.reasoning.decode(tokens, super().tok_decode)

    # --- several processes

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return this rank's own number once for every rank, so that no rank waits for another."""
        return ranks.own_number(tensor, self.ranks)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Gather as HFLM does, in the order of a single process, with the notes of every rank."""
        gathered = super().gather_object((obj, self.notes.taken()), dst)
        if gathered is None:
            return None
        objects, noted = zip(*gathered, strict=True)
        self.notes.take(noted)
        return [ranks.in_order(objects)]


class AblatedHF(BaselineHF):
    """`ablated-hf`: a chat model without its refusal direction (2505.17306, eq. 3)."""

    asks = AskedAblation


class RefusalAddedHF(BaselineHF):
    """`refusal-added-hf`: a chat model with its refusal direction added at one layer."""

    asks = AskedAddition


class McdHF(BaselineHF):
    """`mcd-hf`: a chat model with a safety prompt, either soft (2505.11835) or in words."""

    asks = AskedMcd
