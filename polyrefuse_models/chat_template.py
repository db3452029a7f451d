"""What a chat template writes for the turns of a conversation.

A template is a program. Its source does not show whether it has a system turn, inserts a system
text of its own or loses what the user says, so it is run on probes and its output is looked at.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateError, nodes

from polyrefuse_models.system import System
from polyrefuse_models.time_limit import TookTooLong, time_limit
from polyrefuse_shared.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]

# No template writes these by itself. The user's has what a template may drop, escape, lower or cut.
SYSTEM_PROBE = "Zqsystem: name EVERY bench."
EARLIER_PROBE, ANSWER_PROBE = "Zqearlier", "Zqanswer"
USER_PROBE = (
    "Zquser: \"quoted\", 'so', <b>3 < 4 & 5 > 4</b>, {{ 7 }}, {% x %}, 100 %, a\\b, "
    f"ÉTÉ ß 日本語 ไทย\n\n* {'a garden bench, ' * 250}in green."
)
_DATE_PROBE = "Zqdate"
_ANOTHER_DAY = f"{{% macro strftime_now(format) %}}{_DATE_PROBE}{{% endmacro %}}"

_FEW_WORDS = 3
"""A turn's markers may have as many words ("### Instruction"); more are a text."""


MOST_SECONDS = 10.0
"""Seconds that a template may take; the templates of published models take milliseconds."""


_endless: set[str] = set()
"""Templates that took longer: a probe that fails must not be tried again for as long."""


class NoChatTemplate(UserError):
    """No chat template that could be applied."""


class BadTemplate(UserError):
    """A chat template that fails, or loses or changes the text of a turn."""


class NoPlace(UserError):
    """A chat that a system text cannot be put into, or taken out of."""


def user_turn(text: str) -> dict[str, str]:
    """A turn in which the user says `text`."""
    return {"role": "user", "content": text}


def in_front(text: str, words: str) -> str:
    """A text in front of other words, with a blank line between where there are both."""
    return "\n\n".join(part for part in (text, words) if part)


def with_system(messages: Messages, text: str) -> Messages:
    """A chat with a system text in front of the one that it has, or of its own."""
    own, turns = _split(messages)
    return [{"role": "system", "content": in_front(text, own)}, *turns]


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, and the system text that goes with it.

    Attributes:
        tokenizer: whose template it is.
        owner: what messages call its model.
        system: the system text that was asked for.
        arguments: of the template; `chat_template` names one of several, or is one itself.
    """

    tokenizer: PreTrainedTokenizerBase
    owner: str = "the model"
    system: System = System()
    arguments: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def templates(self) -> str | dict[str, str] | None:
        """The tokenizer's one, or several by their names."""
        return getattr(self.tokenizer, "chat_template", None) or None

    @cached_property
    def source(self) -> str:
        """The template that is applied.

        Raises:
            NoChatTemplate: there is none, none of that name, or several and none is the default.
        """
        given = self.arguments.get("chat_template")
        templates = self.templates
        if given is not None and "{" in str(given):
            return str(given)
        if not templates:
            raise NoChatTemplate(
                f"The tokenizer of {self.owner} has no chat template; give "
                "tokenizer=<one that has>, or chat=off (without --apply_chat_template) to prompt "
                "the model with plain text."
            )
        if isinstance(templates, dict):
            names = ", ".join(sorted(templates))
            if given is None and "default" not in templates:
                raise NoChatTemplate(
                    f"The tokenizer of {self.owner} has the chat templates {names}, and none of "
                    "them is the default; name one with --apply_chat_template NAME."
                )
            if given is not None and given not in templates:
                raise NoChatTemplate(
                    f"The tokenizer of {self.owner} has no chat template {given!r}; name one of "
                    f"{names}."
                )
            return templates["default" if given is None else given]
        if given is not None:
            raise NoChatTemplate(
                f"The tokenizer of {self.owner} has one chat template without a name, and none is "
                f"called {given!r}; give --apply_chat_template without a name."
            )
        return templates

    def same(self, other: ChatTemplate) -> bool:
        """Whether what is known of one holds for the other."""
        return (self.tokenizer, self.templates, self.arguments, self.system) == (
            other.tokenizer,
            other.templates,
            other.arguments,
            other.system,
        )

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """What the model reads of a chat.

        Args:
            messages: a system text in the first turn is put in front of the first user turn where
                the template has no system turn.
            add_generation_prompt: open the turn of an answer; False leaves the last turn open.

        Raises:
            NoChatTemplate: there is none.
            BadTemplate: it fails, or loses or changes the text of a turn.
            NoPlace: a system text has no place, or the template's own cannot be taken away.
        """
        _ = self._around_user  # Refused here where it loses what the user says.
        system, turns = _split(messages)
        system = in_front(system, self.system.text or "")
        if system:
            turns = self._placed(system, turns)
        write = self._write_without_own if self.system.kind == "none" else self._write
        text = write(
            turns,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        self._require_every_turn(turns, text)
        return text

    @cached_property
    def shows_system(self) -> bool:
        """Whether it writes what a system turn says, and the user's turn behind it."""
        return self._beside_system is not None

    @cached_property
    def inserted(self) -> str | None:
        """The text that the template inserts by itself where nobody gives a system text.

        It is what stands around a first user turn and is no marker of turns. None where there is
        none, and where the template does not write what the user says.

        Raises:
            NoChatTemplate: there is no template.
        """
        try:
            head, tail = self._around_user
        except BadTemplate:
            return None
        parts = [self._own_system_text(head)]
        for words in (self._words(self._later_head or ""), self._words(tail)):  # in every turn
            if _is_text(words) and not (parts[0] and parts[0] in words):
                parts.append(words)
        return "\n".join(filter(None, parts)) or None

    @cached_property
    def kept(self) -> str | None:
        """What of `inserted` stays beside a system text that somebody gives."""
        if self.inserted is None:
            return None
        given = [{"role": "system", "content": SYSTEM_PROBE}] if self.shows_system else []
        return self._left_of_own(self._write([*given, user_turn(USER_PROBE)]))

    @property
    def dated(self) -> bool:
        """Whether what is inserted is another text on another day."""
        if self.system.kind == "none":
            return False
        try:
            turns = [user_turn(USER_PROBE)]
            if self.system.text is not None:
                turns = self._placed(self.system.text, turns)
            another_day = _ANOTHER_DAY + self.source
            return _DATE_PROBE in self._write(turns, chat_template=another_day)
        except UserError:
            return False

    @cached_property
    def unopened(self) -> str | None:
        """What opens an answer in a chat and is not written where one is asked for.

        None where a request opens the answer as a chat does, or `add_generation_prompt` has an
        effect, or the template's chats have no answers.
        """
        prompt = user_turn(USER_PROBE)
        answered = [prompt, {"role": "assistant", "content": ANSWER_PROBE}]
        try:
            asked = self._around_user[1]
            left_open = self._write([prompt], add_generation_prompt=False)
            chat = self._write(answered, add_generation_prompt=False)
        except BadTemplate:
            return None
        before, answer, _ = chat.partition(USER_PROBE)[2].partition(ANSWER_PROBE)
        if not left_open.endswith(USER_PROBE + asked) or not answer:
            return None
        ended, before = asked.strip(), before.strip()
        return before.removeprefix(ended).strip() or None if before.startswith(ended) else None

    def is_rendered(self, text: str) -> bool:
        """Whether a text was rendered already, by this template or another one of the tokenizer's.

        It is known by what the template writes around a user's text: it ends as a rendered prompt
        does, where the answer is opened, and what opens a user's or a system turn stands in it
        before. Whatever else the chat has (a system text, earlier turns, words in front) makes no
        difference.

        Not recognised are: an answer that has been begun (lm-eval's `gen_prefix`), where the
        template marks turns by plain words; a template that writes no word and no special token
        around the user's text, which adds nothing either when it is applied again; and templates
        that are not the tokenizer's.
        """
        return any(template._wrote(text) for template in self._siblings)

    def identity(self) -> dict[str, Any]:
        """What results and artifacts say of the system text."""
        return self.system.identity(self.inserted if self.system.kind == "template" else None)

    # --- what the template writes

    def _write(self, messages: Messages, **options: Any) -> str:
        """Its own output, with the turn of an answer opened unless `options` say otherwise.

        Raises:
            NoChatTemplate: there is none.
            BadTemplate: it fails.
        """
        _ = (
            self._bounded_source
        )  # Our message on a missing template comes before transformers' own.
        options = {"add_generation_prompt": True} | self.arguments | options
        if self.source in _endless:
            raise self._has_not_ended()
        try:
            with time_limit(MOST_SECONDS):
                return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except TookTooLong:
            _endless.add(self.source)
            raise self._has_not_ended() from None
        except Exception as error:
            # A template is a program: what it is given may raise anything in it.
            reason = first_line(error)
            raise BadTemplate(
                f"The chat template of {self.owner} cannot be applied: {reason.rstrip('.')}; give "
                "tokenizer=<one with another template>, or chat=off."
            ) from None

    def _has_not_ended(self) -> BadTemplate:
        return BadTemplate(
            f"The chat template of {self.owner} cannot be applied: it has not ended after "
            f"{MOST_SECONDS:g} seconds; give tokenizer=<one with another template>, or chat=off."
        )

    @cached_property
    def _bounded_source(self) -> str:
        """The template, without what no time limit interrupts.

        Raises:
            NoChatTemplate: there is no template.
            BadTemplate: it has a power, such as 9**9**9, or a factor such as in 'x' * 10000000.
        """
        try:
            parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(self.source)
        except TemplateError:  # `_write` says so; or it has a tag of transformers' own.
            return self.source
        factors = [part for mul in parsed.find_all(nodes.Mul) for part in (mul.left, mul.right)]
        if parsed.find(nodes.Pow) or any(map(_is_huge, factors)):
            raise BadTemplate(
                f"The chat template of {self.owner} has a power (**), or multiplies by a number of "
                "millions, which could take for ever or all memory; give "
                "tokenizer=<one with another template>, or chat=off."
            )
        return self.source

    @cached_property
    def _around_user(self) -> tuple[str, str]:
        """What stands before and behind the text of a single user turn.

        Raises:
            BadTemplate: the text is not there as it was given.
        """
        head, user, tail = self._write([user_turn(USER_PROBE)]).partition(USER_PROBE)
        if not user:
            raise BadTemplate(
                f"The chat template of {self.owner} does not write what the user says, or changes "
                f"it{self._hint_of_parts()}, so that answers would not be answers to the prompts; "
                "give tokenizer=<one with another template>, or chat=off."
            )
        return head, tail

    @cached_property
    def _beside_system(self) -> tuple[str, str] | None:
        """What stands before a system text, and between it and the user's; None if it is lost."""
        turns = [{"role": "system", "content": SYSTEM_PROBE}, user_turn(USER_PROBE)]
        try:
            before, system, rest = self._write(turns).partition(SYSTEM_PROBE)
        except BadTemplate:
            return None
        between, user, _ = rest.partition(USER_PROBE)
        return (before, between) if system and user else None

    @cached_property
    def _later_head(self) -> str | None:
        """What a first user turn's text would have before it were it opened as a later one is.

        None where the template has no later turns, or closes them otherwise.
        """
        head, tail = self._around_user
        begun = [user_turn(EARLIER_PROBE), {"role": "assistant", "content": ANSWER_PROBE}]
        try:
            closed = self._write(begun, add_generation_prompt=False).partition(ANSWER_PROBE)[2]
            later = self._write([*begun, user_turn(USER_PROBE)]).partition(ANSWER_PROBE)[2]
        except BadTemplate:
            return None
        opened, user, rest = later.partition(USER_PROBE)
        if not user or rest != tail or not opened.startswith(closed):
            return None
        opened = opened.removeprefix(closed)
        begins = head.startswith(self._bos) and not opened.startswith(self._bos)
        return self._bos + opened if begins else opened

    @cached_property
    def _own_turn(self) -> str | None:
        """What a first user turn has before it and a later one has not, markers and all.

        It stands behind the token that begins a text, or behind the user turn's opening. None
        where first and later turns differ otherwise.
        """
        head, later = self._around_user[0], self._later_head
        if later is None:
            return None
        both = later.startswith(self._bos) and head.startswith(self._bos)
        begun = self._bos if both else ""
        opened = later.removeprefix(begun)
        if head.startswith(begun) and head.removeprefix(begun).endswith(opened):
            return head[len(begun) : len(head) - len(opened)]
        return head.removeprefix(later) if head.startswith(later) else None

    # --- what was rendered already

    @cached_property
    def _siblings(self) -> tuple[ChatTemplate, ...]:
        """This template and the tokenizer's others: which one the harness took may be unknown."""
        arguments = {k: v for k, v in self.arguments.items() if k != "chat_template"}
        names = self.templates if isinstance(self.templates, dict) else ()
        others = [arguments | {"chat_template": name} for name in names] or [arguments]
        return (self, *(replace(self, arguments=one) for one in others if one != self.arguments))

    def _wrote(self, text: str) -> bool:
        """Whether this template made the text."""
        try:
            openings, closing, begun = self._openings, self._closing, self._begun_answer
        except UserError:  # It cannot be applied at all.
            return False
        text = text.strip()
        if closing and text.endswith(closing):
            before = text.removesuffix(closing)
            return not openings or any(opening in before for opening in openings)
        begins = text.startswith(self._beginnings)
        if not closing:
            return begins
        # The answer has been begun: only special tokens tell this from a transcript in a prompt.
        if not begun or not begins:
            return False
        user, _, _ = text.rpartition(begun)
        return any(self._special.search(opening) and opening in user for opening in openings)

    @cached_property
    def _openings(self) -> tuple[str, ...]:
        """What may stand before the text of a user or of the system, without what is no mark.

        Raises:
            UserError: the template cannot be applied.
        """
        head = self._around_user[0]
        another_day = self._write([user_turn(USER_PROBE)], chat_template=_ANOTHER_DAY + self.source)
        undated = _shared_ending(head, another_day.partition(USER_PROBE)[0])
        candidates = [undated, *(self._beside_system or ()), self._later_head or ""]
        bare = (one.removeprefix(self._bos).strip() for one in candidates)
        return tuple(dict.fromkeys(one for one in bare if self._is_mark(one)))

    @cached_property
    def _closing(self) -> str:
        """What stands behind the last user's text, the answer opened; "" where that is no mark.

        Raises:
            UserError: the template cannot be applied.
        """
        tail = self._around_user[1].rstrip()
        return tail if self._is_mark(tail) else ""

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """How a rendered chat may begin, a token that begins every text among them."""
        before = self._beside_system[0] if self._beside_system else ""
        starts = (self._around_user[0], before, self._later_head or "")
        return tuple(start.strip() for start in starts if self._is_mark(start))

    @cached_property
    def _begun_answer(self) -> str:
        """What a chat writes between a user's text and an answer; "" without special tokens."""
        turns = [user_turn(USER_PROBE), {"role": "assistant", "content": ANSWER_PROBE}]
        try:
            chat = self._write(turns, add_generation_prompt=False)
        except BadTemplate:
            return ""
        mark, answer, _ = chat.partition(USER_PROBE)[2].partition(ANSWER_PROBE)
        return mark.strip() if answer and self._special.search(mark) else ""

    def _is_mark(self, text: str) -> bool:
        """Whether a piece of output has a special token or a word: blanks prove nothing."""
        return bool(re.search(r"\w", text) or self._special.search(text))

    @property
    def _bos(self) -> str:
        return getattr(self.tokenizer, "bos_token", None) or ""

    # --- the template's own system text

    def _own_system_text(self, head: str) -> str:
        """The text of `_own_turn`, its markers left out as far as they are known."""
        if self._own_turn is not None:
            whole = self._words(self._own_turn)
        else:
            whole = self._words(head) if _is_text(self._words(head)) else ""
        if self._beside_system is None:
            return whole
        before, between = self._beside_system
        text = head.removeprefix(before).removesuffix(between)
        instead = len(text) == len(head) - len(before) - len(between)
        return text.strip() if instead and not _is_text(self._words(before)) else whole

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """A special token of the tokenizer, or what looks like one."""
        tokens = {*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}
        longest_first = sorted(filter(None, tokens), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), r"<\|[^|<>]*\|>"]))

    def _words(self, text: str) -> str:
        """A piece of output without special tokens, the system role's name and the user's words."""
        text = text.replace(USER_PROBE, "")  # Some write it twice.
        text = self._special.sub("", text)
        return re.sub(r"^\W*(system|developer)\s*(:|\n|$)", "", text, flags=re.I).strip()

    def _left_of_own(self, text: str) -> str | None:
        """The lines of `inserted` that stand in `text`."""
        lines = [line.strip() for line in (self.inserted or "").splitlines()]
        return "\n".join(line for line in lines if re.search(r"\w", line) and line in text) or None

    def _write_without_own(self, turns: Messages, **options: Any) -> str:
        """The output for `turns` without what the template inserts by itself.

        The first user turn gets the head of a later one. Where the template has no later turns, an
        empty system turn stands in for its own.

        Raises:
            NoPlace: the text cannot be taken away, or stays beside another system text.
        """
        if self.inserted is None:
            return self._write(turns, **options)
        if turns[0]["role"] == "system":
            if self.kept:
                raise NoPlace(
                    f"system=none: the chat template of {self.owner} keeps {self.kept!r} beside "
                    "the system text that it is given; leave system=none out."
                )
            return self._write(turns, **options)
        later = self._later_head
        if (
            later is not None
            and self._own_turn is not None
            and self._left_of_own(later + self._around_user[1]) is None
        ):
            # Asked anew: the head may hold a date.
            head = self._write([user_turn(EARLIER_PROBE)]).partition(EARLIER_PROBE)[0]
            text = self._write(turns, **options)
            if text.startswith(head):
                return later + text.removeprefix(head)
        empty = {"role": "system", "content": ""}
        try:
            left = self._left_of_own(self._write([empty, user_turn(USER_PROBE)]))
        except BadTemplate:
            left = self.inserted
        if left:
            raise NoPlace(
                f"system=none: the chat template of {self.owner} inserts {left!r} and cannot be "
                "made to leave it out; leave system=none out, or give "
                "tokenizer=<one with another template>."
            )
        return self._write([empty, *turns], **options)

    # --- what is asked of the output

    def _placed(self, text: str, turns: Messages) -> Messages:
        """A chat with a system text in the system turn, or in front of the first user turn.

        Raises:
            NoPlace: the template has no system turn, and the chat no user turn.
        """
        if self.shows_system:
            return [{"role": "system", "content": text}, *turns]
        first = next((i for i, turn in enumerate(turns) if turn["role"] == "user"), None)
        if first is None:
            raise NoPlace(
                f"The chat template of {self.owner} shows no system turn, and there is no user "
                "turn in the chat: a system text has no place in it; give "
                "tokenizer=<one with another template>."
            )
        turn = turns[first] | {"content": in_front(text, turns[first]["content"])}
        return [*turns[:first], turn, *turns[first + 1 :]]

    def _hint_of_parts(self) -> str:
        parts: Any = [{"type": "text", "text": USER_PROBE}]
        try:
            text = self._write([{"role": "user", "content": parts}])
        except BadTemplate:
            return ""
        whole = USER_PROBE in text
        return " (it reads lists of parts, as a multimodal model's does)" if whole else ""

    def _require_every_turn(self, turns: Messages, text: str) -> None:
        """Raises:
        BadTemplate: the text of a turn is not in the output, or behind that of a later one.
        """
        end = 0
        for turn in turns:
            content = turn["content"].strip()
            # Some templates write a system text into the last user turn.
            begin = text.find(content, 0 if turn["role"] == "system" else end)
            if begin < 0:
                raise BadTemplate(
                    f"The chat template of {self.owner} loses or changes what a turn of the "
                    f"{turn['role']} says ({len(content)} characters, turn {turns.index(turn) + 1} "
                    f"of {len(turns)}); give tokenizer=<one with another template>, or chat=off."
                )
            if turn["role"] != "system":
                end = begin + len(content)


def _split(messages: Messages) -> tuple[str, Messages]:
    """The system text that a chat begins with, and the other turns."""
    begun = bool(messages) and messages[0]["role"] == "system"
    return (messages[0]["content"] if begun else ""), messages[begun:]


def _is_huge(factor: nodes.Expr) -> bool:
    """Whether it is a number of millions, as it stands in the template."""
    return (
        isinstance(factor, nodes.Const)
        and isinstance(factor.value, (int, float))
        and abs(factor.value) > 10**6
    )


def _is_text(words: str) -> bool:
    return len(re.findall(r"\w+", words)) > _FEW_WORDS


def _shared_ending(one: str, other: str) -> str:
    return os.path.commonprefix([one[::-1], other[::-1]])[::-1]
