"""What every engine's model does for refusal safety, whatever runs it.

How a prompt reaches the model, how an answer leaves it, and what tells its results from others are
the same with transformers and with vLLM. An engine's wrapper loads the model, does to it what was
asked for, and inherits the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from lm_eval.api.model import TemplateLM

from polyrefuse_models import bundled
from polyrefuse_models.gguf_checkpoint import check_gguf
from polyrefuse_models.interventions import Intervention, condition_of
from polyrefuse_models.system import read_system
from polyrefuse_models.wrappers.asked import Asked, Nothing
from polyrefuse_models.wrappers.generation_settings import kept_otherwise, requested
from polyrefuse_models.wrappers.prompt_length import refuse_long_prompts
from polyrefuse_models.wrappers.prompting import (
    Prompting,
    parse_chat,
    refuse_system_instruction,
    refuse_truncation,
    system_file,
)
from polyrefuse_models.wrappers.ranks import ALONE, Ranks
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
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

    from polyrefuse_models.chat_template import ChatTemplate


class Measured(TemplateLM):
    """A chat model whose refusals are measured; the base of every engine's wrapper.

    A wrapper calls `read_asked` before it loads anything, so that each mistake is told before
    minutes are lost; `_prepare` when it has the tokenizer; and `_put_in_front` when the
    interventions are done.

    Attributes:
        asks: what the model name asks for: its arguments, and the interventions they become.
        asked: what was asked for.
        interventions: what was done to the model.
        model_name: what results call the model.
        max_length: most tokens of a prompt and its answer.
        max_gen_toks: an answer's most tokens where a request names none.
        prompting: how a prompt reaches the model.
        reasoning: what marks reasoning in its answers.
        notes: what its results must say.
        set_aside: the checkpoint's own generation settings that are not used.
        ranks: the processes that measure the model together, each a share of the prompts.
    """

    asks: ClassVar[type[Asked]] = Nothing

    # lm-eval sets them without types.
    tokenizer: PreTrainedTokenizerBase
    cache_hook: CacheHook
    truncation: bool

    asked: Asked
    interventions: Sequence[Intervention] = ()
    set_aside: Mapping[str, Any] = {}
    ranks: Ranks = ALONE

    if TYPE_CHECKING:  # Each engine's own class of lm-eval has them.

        @property
        def model_name(self) -> str: ...

        @property
        def max_length(self) -> int: ...

        @property
        def max_gen_toks(self) -> int: ...

    def prompt_ids(self, text: str) -> list[int]:
        """The tokens that the model reads of a rendered prompt, with what stands in front."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the request: model, condition, settings."""
        raise NotImplementedError

    def generation_settings(self) -> dict[str, Any]:
        """The settings that every answer of the run was made with."""
        raise NotImplementedError

    # --- how a model comes to be

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Measured:
        """lm-eval's; where no model is named, the organism is, in lm-eval's own arguments.

        The results and their folder bear the name found there, a random one where there is none.
        """
        arg_dict.setdefault("pretrained", bundled.ORGANISM)
        return super().create_from_arg_obj(arg_dict, additional_config)

    def read_asked(
        self,
        pretrained: object,
        arguments: dict[str, Any],
        *,
        chat: str,
        system: str | None,
        system_file: str | None,
    ) -> None:
        """Read what the model name asks for, and take it out of the engine's arguments.

        Raises:
            UserError: an argument cannot be used.
        """
        self._with_template = parse_chat(chat)
        self._system = read_system(system, system_file)
        refuse_system_instruction(self._with_template, self._system)
        if self._system.text is not None:
            refuse_truncation(arguments, "the system file's text")
            arguments["system_file"] = system_file
        check_gguf(pretrained, arguments.get("gguf_file"))
        self.asked = self.asks(arguments, pretrained)
        arguments.pop("system_file", None)
        warn_before_publishing()
        self.notes = RunNotes()

    def _folder(self, pretrained: Any) -> Any:
        """What to load: the organism where nothing is named, and a bundled one's folder."""
        if pretrained in (None, bundled.ORGANISM):
            pretrained = bundled.ORGANISM
            logger.warning(
                "No other pretrained= was given: this measures %s, the small model of an invented "
                "world that comes with the package; its tasks are the group toyrefuse.",
                bundled.ORGANISM,
            )
        if isinstance(pretrained, str) and pretrained in bundled.SHIPPED:
            return str(bundled.path(pretrained))
        return pretrained

    def _prepare(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template_arguments: Mapping[str, Any],
        think_end_token: str | int | None,
    ) -> None:
        """Set up how prompts are rendered and answers read."""
        # lm-eval cuts reasoning off without a trace where it ended and leaves it where it did not;
        # `reasoning` marks the second, so that it is not judged as an answer.
        self.reasoning = ReasoningMarks(tokenizer, think_end_token)
        self.prompting = Prompting(
            tokenizer,
            self.model_name,
            chat=self._with_template,
            system=self._system,
            template_arguments=template_arguments,
            notes=self.notes,
        )
        if sentence := self.reasoning.warning(self.model_name):
            self.warn(sentence)

    def _set_aside(self, settings: Mapping[str, Any]) -> None:
        """Say which of the checkpoint's own generation settings are not used."""
        self.set_aside = settings
        if settings:
            logger.warning(
                "The generation_config of %s asks for %s, which the protocol sets aside; name it "
                "in --gen_kwargs to measure the model with it.",
                self.model_name,
                listed(settings),
            )

    def _with_system_file(self, interventions: Sequence[Intervention]) -> list[Intervention]:
        """The interventions, and the system file that is one where it was named."""
        text = system_file(self.prompting.system)
        return [*interventions, text] if text is not None else list(interventions)

    def _put_in_front(self, interventions: Sequence[Intervention]) -> None:
        """Keep what was done to the model, and have its prompts stand in front of what is asked."""
        self.interventions = tuple(interventions)
        self.prompting.put_in_front(self.interventions, self.max_length)

    # --- what results say

    def measured(self) -> dict[str, Any]:
        """What results say of any engine's model: what was done to it, and how it was asked."""
        return self.identity() | {
            "versions": versions(),
            "warnings": list(self.warnings),
            "generation_settings": self.generation_settings(),
            "generation_settings_set_aside": dict(self.set_aside),
        }

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

    # --- how a prompt reaches the model

    @property
    def template(self) -> ChatTemplate:
        """The chat template, named or not by `--apply_chat_template`, and its system text."""
        return self.prompting.template

    @property
    def tokenizer_name(self) -> str:
        """lm-eval's, and what is rendered: it keeps rendered requests under this name."""
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

        lm-eval drops a system turn that the template does not take, and does not ask whether the
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

    # --- requests

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The engine's answers, with the chat template applied where nobody has, and no prompt cut
        short.

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
        if self._refuses_long_prompts:
            refuse_long_prompts(
                rendered,
                count=lambda text: len(self.prompt_ids(text)),
                window=self.max_length,
                max_gen_toks=self.max_gen_toks,
            )
        self._note_settings(requests)
        hook = self.cache_hook
        self.cache_hook = AnswersByRequest(hook, original, self.reasoning.reopened)
        try:
            answers = self._answers(rendered, disable_tqdm)
        finally:
            self.cache_hook = hook
        answers = [
            self.reasoning.reopened(request.args[0], answer)
            for request, answer in zip(rendered, answers, strict=True)
        ]
        if self.ranks.count > 1:
            self.notes.keep(requests, answers)
            return answers
        for sentence in same_answers(requests, answers):
            self.warn(sentence)
        return answers

    @property
    def _refuses_long_prompts(self) -> bool:
        """Whether nobody asked for prompts to be cut."""
        return not self.truncation

    def _answers(self, rendered: list[Instance], disable_tqdm: bool) -> list[str]:
        """The engine's own `generate_until`, of requests with the text that the model reads."""
        raise NotImplementedError

    def _note_settings(self, requests: list[Instance]) -> None:
        """Keep the settings that answers are made with, and warn where the run claims others."""
        self.notes.note_settings(
            requested(request.args[1], self.max_gen_toks) for request in requests
        )
        for sentence in kept_otherwise(requests):
            self.warn(sentence)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts, as the engine does.

        Raises:
            UserError: words would have to stand in front of a context, and there is none.
        """
        if self.prompting.names is not None:
            raise UserError(
                f"{self.prompting.names} has no place in {requests[0].task_name}: its texts are "
                "scored whole (loglikelihood_rolling), with no context that it could stand before."
            )
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    @property
    def _scoring_window(self) -> int:
        """Most tokens of a context and its continuation, without the last, which is not read."""
        return self.max_length

    def _behind_the_front(
        self, requests: list[tuple[Any, list[int], list[int]]]
    ) -> list[tuple[Any, list[int], list[int]]]:
        """Log-likelihood requests with what stands in front of contexts, behind a token that begins
        a text.

        Raises:
            UserError: a request is longer than the window; lm-eval would cut the front off.
        """
        if self.prompting.names is None:
            self.notes.begin()
            return requests
        self.prompting.begin()
        prefix = self.prefix_token_id
        requests = [
            (key, self.prompting.behind(context, prefix), end) for key, context, end in requests
        ]
        longest = max((len(context) + len(end) - 1 for _, context, end in requests), default=0)
        if longest > self._scoring_window:
            raise UserError(
                f"A request has {longest} tokens with {self.prompting.names} and the model a "
                f"window of {self._scoring_window}; lower --num_fewshot or give a shorter prompt."
            )
        return requests

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
