"""The base of every engine's wrapper: what does not depend on the engine.

How a prompt reaches the model, how an answer leaves it, and what identifies its results are the
same with transformers and with vLLM. An engine's wrapper loads the model, installs the
interventions, and inherits the rest.
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

    A wrapper calls `read_asked` before it loads anything, so that mistakes are reported at once and
    not after minutes. It calls `_prepare` as soon as it has the tokenizer, and `_put_in_front` once
    the interventions are installed.

    Attributes:
        asks: the class that reads the arguments of the model name.
        asked: the arguments that were read.
        interventions: the interventions on the model.
        model_name: the model's name in results.
        max_length: the largest number of tokens of a prompt and its answer together.
        max_gen_toks: the largest number of tokens in an answer if a request names none.
        prompting: how a prompt reaches the model.
        reasoning: the marks of reasoning in the model's answers.
        notes: what the results have to say besides the rates.
        set_aside: the checkpoint's own generation settings that are not used.
        ranks: the processes that measure the model together, each with a share of the prompts.
    """

    asks: ClassVar[type[Asked]] = Nothing

    # lm-eval sets these attributes without annotating them.
    tokenizer: PreTrainedTokenizerBase
    cache_hook: CacheHook
    truncation: bool

    asked: Asked
    interventions: Sequence[Intervention] = ()
    set_aside: Mapping[str, Any] = {}
    ranks: Ranks = ALONE

    if TYPE_CHECKING:  # The engine's own class in lm-eval defines these.

        @property
        def model_name(self) -> str: ...

        @property
        def max_length(self) -> int: ...

        @property
        def max_gen_toks(self) -> int: ...

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids that the model reads for a rendered prompt, with the text in front."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Return what an answer depends on besides the request: model, condition, settings."""
        raise NotImplementedError

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings that every answer of the run was made with."""
        raise NotImplementedError

    # --- how a model is made

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Measured:
        """Make the model as lm-eval does. If no name is given, it is the organism.

        The name is added to lm-eval's own arguments, because the results and their folder are named
        after it, and would otherwise have a random name.
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
        """Read the arguments of the model name, and take them out of the engine's arguments.

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
        """Return what to load: the organism by default, and for a bundled model its folder."""
        if pretrained in (None, bundled.ORGANISM):
            pretrained = bundled.ORGANISM
            logger.warning(
                "No other model was named, so this measures %s, the small model of an "
                "invented world that comes with the package; its tasks are the group toyrefuse.",
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
        # lm-eval removes reasoning that ended and leaves reasoning that did not. `reasoning` marks
        # the latter, so that it is not judged as an answer.
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
        """Log which of the checkpoint's own generation settings are not used."""
        self.set_aside = settings
        if settings:
            logger.warning(
                "The generation_config of %s asks for %s, which the protocol does not use; to "
                "measure the model with these settings, give them in --gen_kwargs.",
                self.model_name,
                listed(settings),
            )

    def _with_system_file(self, interventions: Sequence[Intervention]) -> list[Intervention]:
        """Add the system file, if one was named, to the interventions."""
        text = system_file(self.prompting.system)
        return [*interventions, text] if text is not None else list(interventions)

    def _put_in_front(self, interventions: Sequence[Intervention]) -> None:
        """Keep the interventions, and put those that are texts in front of every prompt."""
        self.interventions = tuple(interventions)
        self.prompting.put_in_front(self.interventions, self.max_length)

    # --- what results say

    def measured(self) -> dict[str, Any]:
        """Return what results record about the model, whatever the engine is."""
        return self.identity() | {
            "versions": versions(),
            "warnings": list(self.warnings),
            "generation_settings": self.generation_settings(),
            "generation_settings_set_aside": dict(self.set_aside),
        }

    @property
    def condition(self) -> str:
        """The name of the condition."""
        return condition_of(self.interventions)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the rates has to know, as whole sentences."""
        return self.notes.warnings

    def warn(self, sentence: str) -> None:
        """Log what a reader of the rates has to know, once, and record it for the results."""
        self.notes.warn(sentence)

    # --- how a prompt reaches the model

    @property
    def template(self) -> ChatTemplate:
        """The chat template that `--apply_chat_template` names, or the only one."""
        return self.prompting.template

    @property
    def tokenizer_name(self) -> str:
        """lm-eval's name, and a checksum of what is rendered, since it caches requests by name."""
        return f"{super().tokenizer_name}-{self.prompting.checksum()}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the template that lm-eval applies, for its results.

        Raises:
            NoChatTemplate: there is no template, or none of that name.
        """
        if chat_template is False or chat_template is None:
            return super().chat_template(chat_template)
        return self.prompting.template_named(chat_template).source

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a chat for lm-eval, with every turn in the text that the model reads.

        lm-eval itself would drop a system turn that the template does not take, and would not check
        that the template writes the other turns.

        Raises:
            UserError: there is no template, or it loses a turn.
        """
        return self.prompting.apply(chat_history, add_generation_prompt)

    def render(self, prompt: str) -> str:
        """Put the chat template around one user turn.

        Raises:
            UserError: there is no template, or it loses the prompt.
        """
        return self.prompting.render(prompt)

    def plain(self, prompt: str) -> str:
        """Return the text that the model reads for a prompt if no chat template is applied."""
        return self.prompting.plain(prompt)

    # --- requests

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate answers, with the chat template applied and no prompt cut.

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
        """Whether the user did not ask for prompts to be cut."""
        return not self.truncation

    def _answers(self, rendered: list[Instance], disable_tqdm: bool) -> list[str]:
        """Have the engine answer requests, whose text is already what the model reads."""
        raise NotImplementedError

    def _note_settings(self, requests: list[Instance]) -> None:
        """Record the settings that answers are made with, and warn if the run states others."""
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
            UserError: a safety prompt has to stand in front of a context, and there is none.
        """
        if self.prompting.names is not None:
            raise UserError(
                f"{self.prompting.names} cannot be used in {requests[0].task_name}, which scores "
                "whole texts (loglikelihood_rolling) and has no context to put it in front of; "
                "leave out that task."
            )
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    @property
    def _scoring_window(self) -> int:
        """The largest number of tokens in a context and its continuation, except the last token."""
        return self.max_length

    def _behind_the_front(
        self, requests: list[tuple[Any, list[int], list[int]]]
    ) -> list[tuple[Any, list[int], list[int]]]:
        """Put the safety prompt in front of the contexts of log-likelihood requests.

        If a token begins every text, the safety prompt follows this token.

        Raises:
            UserError: a request is longer than the window. lm-eval would cut off its beginning.
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
                f"A request has {longest} tokens with {self.prompting.names}, and the model has a "
                f"window of {self._scoring_window}; lower --num_fewshot, or give a shorter safety "
                "prompt."
            )
        return requests

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Use lm-eval's response cache, unless another condition wrote it.

        lm-eval finds an answer by its request alone, so it would serve a baseline's answers to the
        ablated model.

        Raises:
            WrongCache: the cache holds answers under another condition, or under an unknown one.
        """
        if cache_hook.dbdict is not None:
            claim_cache(cache_hook.dbdict, self.identity())
        super().set_cache_hook(cache_hook)
