"""lm-eval's HFLM for refusal safety, and the model names that it is asked for by.

Every HFLM argument works. This module holds what is HFLM's own; how a prompt reaches the model, how
an answer leaves it and what tells its results from others is shared by all engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn import functional

from polyrefuse_models import bundled
from polyrefuse_models.anatomy import input_device
from polyrefuse_models.chat_model import ChatModel, extraction_rows
from polyrefuse_models.gguf_checkpoint import check_gguf, remember_file
from polyrefuse_models.interventions import Intervention, condition_of
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_models.system import read_system
from polyrefuse_models.wrappers import identity
from polyrefuse_models.wrappers.asked import (
    Asked,
    AskedAblation,
    AskedAddition,
    AskedMcd,
    Nothing,
)
from polyrefuse_models.wrappers.generation_settings import effective, kept_otherwise, requested
from polyrefuse_models.wrappers.prompt_length import refuse_long_prompts
from polyrefuse_models.wrappers.prompting import (
    Prompting,
    parse_chat,
    refuse_system_instruction,
    refuse_truncation,
    system_file,
)
from polyrefuse_models.wrappers.reasoning import ReasoningMarks
from polyrefuse_models.wrappers.response_cache import AnswersByRequest, claim_cache
from polyrefuse_models.wrappers.run_notes import RunNotes
from polyrefuse_models.wrappers.same_answers import same_answers
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import CacheHook, warn_before_publishing
from polyrefuse_shared.log import logger
from polyrefuse_shared.versions import versions
from polyrefuse_tasks.generation_settings import listed

if TYPE_CHECKING:
    from jaxtyping import Int
    from lm_eval.api.instance import Instance
    from torch import Tensor
    from transformers import PreTrainedModel

    from polyrefuse_models.chat_template import ChatTemplate


class BaselineHF(HFLM):
    """`baseline-hf`: a chat model without an intervention.

    Args:
        pretrained: as HFLM takes it, or the name of a bundled organism, the first one's where None.
        chat: "on" applies the tokenizer's chat template to `generate_until` requests where the
            harness was not told to (`--apply_chat_template`); "off" leaves them as they are.
            Log-likelihood requests stay as the harness makes them.
        system: "template" leaves the system text that the chat template inserts by itself, "none"
            takes it away.
        system_file: a file with the text of the system turn, in place of `system`.
        arguments: what the model name itself asks for (`asks`), and every other argument of HFLM.

    Attributes:
        asked: what the model name asked for.
        interventions: what was done to the model.

    Raises:
        UserError: an argument cannot be used, or the harness adds a system instruction without a
            template or beside the file's text.
    """

    asks: ClassVar[type[Asked]] = Nothing

    # HFLM sets them without types.
    think_end_token: str | int | None
    cache_hook: CacheHook

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        chat: str = "on",
        system: str | None = "template",
        system_file: str | None = None,
        **arguments: Any,
    ) -> None:
        # Loading may take minutes: each mistake is told before it where it can be.
        with_template = parse_chat(chat)
        system_text = read_system(system, system_file)
        refuse_system_instruction(with_template, system_text)
        if system_text.text is not None:
            refuse_truncation(arguments, "the system file's text")
            arguments["system_file"] = system_file
        check_gguf(pretrained, arguments.get("gguf_file"))
        self.asked = self.asks(arguments, pretrained)
        arguments.pop("system_file", None)
        warn_before_publishing()
        self._load(pretrained, arguments)
        self.notes = RunNotes()
        # HFLM cuts reasoning off without a trace where it ended and leaves it where it did not;
        # `tok_decode` marks the second, so that it is not judged as an answer.
        self.reasoning = ReasoningMarks(self.tokenizer, self.think_end_token)
        self.think_end_token = None
        self.prompting = Prompting(
            self.tokenizer,
            self.model_name,
            chat=with_template,
            system=system_text,
            template_arguments=self.chat_template_args,
            notes=self.notes,
        )
        if sentence := self.reasoning.warning(self.model_name):
            self.warn(sentence)
        self.set_aside = neutralise(self.model)
        if self.set_aside:
            logger.warning(
                "The generation_config of %s asks for %s, which the protocol sets aside; name it "
                "in --gen_kwargs to measure the model with it.",
                self.model_name,
                listed(self.set_aside),
            )
        self._intervene()

    def _load(self, pretrained: str | PreTrainedModel | None, arguments: dict[str, Any]) -> None:
        """Load the model as HFLM does, the organism where none is named."""
        if pretrained in (None, bundled.ORGANISM):
            pretrained = bundled.ORGANISM
            logger.warning(
                "No other pretrained= was given: this measures %s, the small model of an invented "
                "world that comes with the package; its tasks are the group toyrefuse.",
                bundled.ORGANISM,
            )
        if isinstance(pretrained, str) and pretrained in bundled.SHIPPED:
            pretrained = str(bundled.path(pretrained))
        if arguments.get("device") is None:
            # HFLM's own default is a GPU, there or not.
            arguments["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        self.model_arguments = identity.model_arguments(arguments)
        super().__init__(pretrained=pretrained, **arguments)
        remember_file(self.model, arguments.get("gguf_file"))

    def _intervene(self) -> None:
        """Do to the model what was asked for; what is extracted is extracted before."""
        self.interventions: Sequence[Intervention] = ()
        interventions = self.asked.fit(self)
        if (text := system_file(self.prompting.system)) is not None:
            interventions.append(text)
        if any(intervention.edits_weights for intervention in interventions):
            _ = self.weights  # As loaded: edited on another device they differ by rounding.
        for intervention in interventions:
            intervention.install(self.model)
        self.interventions = tuple(interventions)
        self.prompting.put_in_front(interventions, self.max_length)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> BaselineHF:
        """HFLM's; where no model is named, the organism is, in lm-eval's own arguments.

        The results and their folder bear the name found there, a random one where there is none.
        """
        arg_dict.setdefault("pretrained", bundled.ORGANISM)
        return super().create_from_arg_obj(arg_dict, additional_config)

    # --- what results say

    def get_model_info(self) -> dict[str, Any]:
        """HFLM's, what was done to the model, and what a reader of its rates must know."""
        return (
            super().get_model_info()
            | self.identity()
            | {
                "versions": versions(),
                "warnings": list(self.warnings),
                "generation_settings": effective(self.model, self.notes.settings),
                "generation_settings_set_aside": self.set_aside,
            }
        )

    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the request: model, condition, settings."""
        return identity.identity(self, self.prompting, self.interventions, self.reasoning.end)

    @property
    def condition(self) -> str:
        """What was done to the model."""
        return condition_of(self.interventions)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the rates must know, whole sentences."""
        return self.notes.warnings

    def warn(self, sentence: str) -> None:
        """Log what a reader of the rates must know, once, and keep it for the results."""
        self.notes.warn(sentence)

    @cached_property
    def weights(self) -> str:
        """Which weights were loaded."""
        return identity.weights_of(self)

    @property
    def model_name(self) -> str:
        """What results call the model."""
        return bundled.name_of(self.model.config.name_or_path)

    @property
    def own_dataset(self) -> str:
        """Whose prompts are used where nobody says: the organism's own world, or PolyRefuse."""
        return bundled.own_dataset(self.pretrained)

    @property
    def own_model(self) -> bool:
        """Whether the model was loaded here; one that the caller made is the caller's."""
        return isinstance(self.pretrained, str)

    @property
    def chat_model(self) -> ChatModel:
        """The model as direction extraction sees it, with prompts as `generate_until` has them."""
        prompting = self.prompting
        return ChatModel(
            model=self.model,
            tokenizer=self.tokenizer,
            render=prompting.render if prompting.chat else prompting.plain,
            encode=self.tok_batch_encode,
            template=prompting.template if prompting.chat else None,
            batch_size=extraction_rows(self.batch_size, input_device(self.model)),
        )

    # --- how a prompt reaches the model

    @property
    def template(self) -> ChatTemplate:
        """The chat template, named or not by `--apply_chat_template`, and its system text."""
        return self.prompting.template

    @property
    def tokenizer_name(self) -> str:
        """HFLM's, and what is rendered: lm-eval keeps rendered requests under this name."""
        return f"{super().tokenizer_name}-{self.prompting.checksum()}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that the harness applies, for its results.

        Raises:
            NoChatTemplate: there is none, or none of that name.
        """
        if chat_template is False or chat_template is None:
            return super().chat_template(chat_template)
        return self.prompting.template_named(chat_template).source

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """What the harness puts into requests: a chat, with every turn in what the model reads.

        HFLM drops a system turn that the template does not take, and does not ask whether the
        template writes the others.

        Raises:
            UserError: there is no template, or it loses a turn.
        """
        return self.prompting.apply(chat_history, add_generation_prompt)

    def render(self, prompt: str) -> str:
        """The chat template around one user turn.

        Raises:
            UserError: there is no template, or it loses the prompt.
        """
        return self.prompting.render(prompt)

    def plain(self, prompt: str) -> str:
        """What the model reads of a prompt that gets no chat template."""
        return self.prompting.plain(prompt)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]:
        """HFLM's, with what peft trained in front of each text, behind the padding."""
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

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """HFLM's, with the chat template applied where nobody has, and no prompt cut short.

        Raises:
            UserError: a prompt cannot be rendered, or does not fit the window.
        """
        self.prompting.begin()
        original = {}
        rendered = []
        for request in requests:
            context, settings = request.args
            text = self.prompting.read(context)
            original[text] = context
            rendered.append(replace(request, arguments=(text, settings)))
        if not self.truncation and self.backend == "causal":
            refuse_long_prompts(
                rendered,
                count=lambda text: self.tok_batch_encode([text])[0].shape[1],
                window=self.max_length,
                max_gen_toks=self.max_gen_toks,
            )
        self._note_settings(requests)
        hook = self.cache_hook
        self.cache_hook = AnswersByRequest(hook, original, self.reasoning.reopened)
        try:
            answers = super().generate_until(rendered, disable_tqdm=disable_tqdm)
        finally:
            self.cache_hook = hook
        answers = [
            self.reasoning.reopened(request.args[0], answer)
            for request, answer in zip(rendered, answers, strict=True)
        ]
        for sentence in same_answers(requests, answers):
            self.warn(sentence)
        return answers

    def _note_settings(self, requests: list[Instance]) -> None:
        """Keep the settings that answers are made with, and warn where the run claims others."""
        for request in requests:
            settings = requested(request.args[1], self.max_gen_toks)
            if settings not in self.notes.settings:
                self.notes.settings.append(settings)
        for sentence in kept_otherwise(requests):
            self.warn(sentence)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts, as HFLM does.

        Raises:
            UserError: words would have to stand in front of a context, and there is none.
        """
        if self.prompting.names is not None:
            raise UserError(
                f"{self.prompting.names} has no place in {requests[0].task_name}: its texts are "
                "scored whole (loglikelihood_rolling), with no context that it could stand before."
            )
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """HFLM's, with what stands in front of contexts behind a token that begins a text.

        Raises:
            UserError: a request is longer than the window; HFLM would cut the front off.
        """
        if self.prompting.names is None:
            self.notes.begin()
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        self.prompting.begin()
        prefix = self.prefix_token_id
        requests = [
            (key, self.prompting.behind(context, prefix), end) for key, context, end in requests
        ]
        longest = max((len(context) + len(end) - 1 for _, context, end in requests), default=0)
        if longest > self.max_length:
            raise UserError(
                f"A request has {longest} tokens with {self.prompting.names} and the model a "
                f"window of {self.max_length}; lower --num_fewshot or give a shorter prompt."
            )
        return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """HFLM's; of an answer with reasoning (`think_end_token`), what follows it."""
        if not skip_special_tokens or not isinstance(tokens, list):
            return super().tok_decode(tokens, skip_special_tokens)
        return self.reasoning.decode(tokens, super().tok_decode)

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Take lm-eval's response cache, and refuse one that another condition wrote.

        lm-eval keys an answer by its request alone, so a baseline's answers would be served to the
        ablated model.

        Raises:
            WrongCache: the cache holds answers of another condition, or of nobody knows which.
        """
        if cache_hook.dbdict is not None:
            claim_cache(cache_hook.dbdict, self.identity())
        super().set_cache_hook(cache_hook)


class AblatedHF(BaselineHF):
    """`ablated-hf`: a chat model with its refusal direction ablated (2505.17306, eq. 3)."""

    asks = AskedAblation


class RefusalAddedHF(BaselineHF):
    """`refusal-added-hf`: a chat model with its refusal direction added at one layer."""

    asks = AskedAddition


class McdHF(BaselineHF):
    """`mcd-hf`: a chat model with a safety prompt, a soft one (2505.11835) or one in words."""

    asks = AskedMcd
