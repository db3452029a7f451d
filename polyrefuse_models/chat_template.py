"""Find out what a chat template writes for the turns of a conversation.

A template is a program. Its source does not show whether it has a system turn, inserts its own
system text, or loses what the user says. It is therefore run on probe texts, and its output is
examined.
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

# No template writes these texts by itself. The user's probe has everything that a template may
# drop, escape, turn to lower case or cut off.
SYSTEM_PROBE = "Zqsystem: name EVERY bench."
EARLIER_PROBE, ANSWER_PROBE = "Zqearlier", "Zqanswer"
USER_PROBE = (
    "Zquser: \"quoted\", 'so', <b>3 < 4 & 5 > 4</b>, {{ 7 }}, {% x %}, 100 %, a\\b, "
    f"ÉTÉ ß 日本語 ไทย\n\n* {'a garden bench, ' * 250}in green."
)
_DATE_PROBE = "Zqdate"
_ANOTHER_DAY = f"{{% macro strftime_now(format) %}}{_DATE_PROBE}{{% endmacro %}}"

_FEW_WORDS = 3
"""The largest number of words that still pass for markers of a turn ("### Instruction")."""


MOST_SECONDS = 10.0
"""How long a template may take, in seconds; the templates of published models take milliseconds."""


_endless: set[str] = set()
"""The templates that took longer than `MOST_SECONDS`, so that later probes do not wait again."""


class NoChatTemplate(UserError):
    """There is no chat template that can be applied."""


class BadTemplate(UserError):
    """A chat template that fails, or loses or changes the text of a turn."""


class NoPlace(UserError):
    """A system text that cannot be put into a chat, or cannot be removed from it."""


def user_turn(text: str) -> dict[str, str]:
    """Make a turn in which the user says `text`."""
    return {"role": "user", "content": text}


def in_front(text: str, words: str) -> str:
    """Put a text in front of other words, with a blank line between if neither is empty."""
    return "\n\n".join(part for part in (text, words) if part)


def with_system(messages: Messages, text: str) -> Messages:
    """Put a system text in front of a chat's own system text, or into a new system turn."""
    own, turns = _split(messages)
    return [{"role": "system", "content": in_front(text, own)}, *turns]


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, and the system text that goes with it.

    Attributes:
        tokenizer: the tokenizer that has the template.
        owner: the name of the tokenizer's model, for messages.
        system: the system text that was asked for.
        arguments: arguments of the template; `chat_template` names one of several templates, or is
            a template itself.
    """

    tokenizer: PreTrainedTokenizerBase
    owner: str = "the model"
    system: System = System()
    arguments: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def templates(self) -> str | dict[str, str] | None:
        """The tokenizer's template, or its templates by name."""
        return getattr(self.tokenizer, "chat_template", None) or None

    @cached_property
    def source(self) -> str:
        """The template that is applied.

        Raises:
            NoChatTemplate: there is no template, none of that name, or several without a default.
        """
        given = self.arguments.get("chat_template")
        templates = self.templates
        if given is not None and "{" in str(given):
            return str(given)
        if not templates:
            raise NoChatTemplate(
                f"The tokenizer of {self.owner} has no chat template; give "
                "tokenizer=<one that has a template>, or chat=off (without --apply_chat_template) "
                "to prompt the model with plain text."
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
                f"The tokenizer of {self.owner} has one chat template, which has no name, and none "
                f"called {given!r}; give --apply_chat_template without a name."
            )
        return templates

    def same(self, other: ChatTemplate) -> bool:
        """Whether both templates render every chat in the same way."""
        return (self.tokenizer, self.templates, self.arguments, self.system) == (
            other.tokenizer,
            other.templates,
            other.arguments,
            other.system,
        )

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """Render a chat as the text that the model reads.

        Args:
            messages: the turns. If the template has no system turn, a system text in the first
                turn is put in front of the first user turn.
            add_generation_prompt: whether to open the turn of an answer. False leaves the last
                turn open.

        Raises:
            NoChatTemplate: there is no template.
            BadTemplate: the template fails, or loses or changes the text of a turn.
            NoPlace: there is no place for a system text, or the template's own cannot be removed.
        """
        _ = self._around_user  # This refuses a template that loses what the user says.
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
        """Whether the template writes the text of a system turn, and the user's turn after it."""
        return self._beside_system is not None

    @cached_property
    def inserted(self) -> str | None:
        """The text that the template inserts by itself if no system text is given.

        This is all that the template writes around a first user turn, apart from the markers of
        turns. None if there is no such text, or if the template does not write what the user says.

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
        """The part of `inserted` that the template still writes when it is given a system text."""
        if self.inserted is None:
            return None
        given = [{"role": "system", "content": SYSTEM_PROBE}] if self.shows_system else []
        return self._left_of_own(self._write([*given, user_turn(USER_PROBE)]))

    @property
    def dated(self) -> bool:
        """Whether the text that the template inserts depends on the date."""
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
        """The text that opens an answer in a finished chat but not in a prompt that asks for one.

        None if both open the answer in the same way, if `add_generation_prompt` has an effect, or
        if the template writes no answers in a chat.
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
        """Whether a text was rendered already, by this or another template of the tokenizer.

        A rendered text is recognised by what the template writes around a user's text: the text
        ends with what opens an answer, and has what opens a user's or a system turn somewhere
        before that. Whatever else the chat has (a system text, earlier turns, words in front) makes
        no difference.

        Three cases are not recognised: an answer that has begun (lm-eval's `gen_prefix`), if the
        template marks turns by plain words; a template that writes neither a word nor a special
        token around the user's text, which does no harm when it is applied again; and templates
        that are not the tokenizer's.
        """
        return any(template._wrote(text) for template in self._siblings)

    def identity(self) -> dict[str, Any]:
        """Return what results and artifacts record of the system text."""
        return self.system.identity(self.inserted if self.system.kind == "template" else None)

    # --- what the template writes

    def _write(self, messages: Messages, **options: Any) -> str:
        """Return the template's output, with the answer opened unless `options` say otherwise.

        Raises:
            NoChatTemplate: there is no template.
            BadTemplate: the template fails.
        """
        # A missing template gets our message and not transformers' own.
        _ = self._bounded_source
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
            # A template is a program and may raise any error.
            reason = first_line(error)
            raise BadTemplate(
                f"The chat template of {self.owner} cannot be applied: {reason.rstrip('.')}; give "
                "tokenizer=<one with another template>, or chat=off."
            ) from None

    def _has_not_ended(self) -> BadTemplate:
        return BadTemplate(
            f"The chat template of {self.owner} cannot be applied: it did not end within "
            f"{MOST_SECONDS:g} seconds; give tokenizer=<one with another template>, or chat=off."
        )

    @cached_property
    def _bounded_source(self) -> str:
        """The template, once it is known to have nothing that a time limit could not interrupt.

        Raises:
            NoChatTemplate: there is no template.
            BadTemplate: it has a power, such as 9**9**9, or a large factor, as in 'x' * 10000000.
        """
        try:
            parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(self.source)
        except TemplateError:  # `_write` reports it, or it is a tag that only transformers knows.
            return self.source
        factors = [part for mul in parsed.find_all(nodes.Mul) for part in (mul.left, mul.right)]
        if parsed.find(nodes.Pow) or any(map(_is_huge, factors)):
            raise BadTemplate(
                f"The chat template of {self.owner} has a power (**), or multiplies by more than a "
                "million, which could take unlimited time or memory; give "
                "tokenizer=<one with another template>, or chat=off."
            )
        return self.source

    @cached_property
    def _around_user(self) -> tuple[str, str]:
        """The output before and after the text of a single user turn.

        Raises:
            BadTemplate: the output does not hold the text as it was given.
        """
        head, user, tail = self._write([user_turn(USER_PROBE)]).partition(USER_PROBE)
        if not user:
            raise BadTemplate(
                f"The chat template of {self.owner} does not write what the user says, or changes "
                f"it{self._hint_of_parts()}, so the model would not answer the prompts; "
                "give tokenizer=<one with another template>, or chat=off."
            )
        return head, tail

    @cached_property
    def _beside_system(self) -> tuple[str, str] | None:
        """The output before a system text, and between it and the user's; None if one is lost."""
        turns = [{"role": "system", "content": SYSTEM_PROBE}, user_turn(USER_PROBE)]
        try:
            before, system, rest = self._write(turns).partition(SYSTEM_PROBE)
        except BadTemplate:
            return None
        between, user, _ = rest.partition(USER_PROBE)
        return (before, between) if system and user else None

    @cached_property
    def _later_head(self) -> str | None:
        """What would stand before the first user turn's text if it opened like a later turn.

        None if the template has no later turns, or closes them in another way.
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
        """The output, markers included, that stands before a first user turn but not a later one.

        It follows the token that begins a text, or the opening of the user turn. None if first and
        later turns differ in another way.
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
        """All templates of the tokenizer, because it may be unknown which one lm-eval took."""
        arguments = {k: v for k, v in self.arguments.items() if k != "chat_template"}
        names = self.templates if isinstance(self.templates, dict) else ()
        others = [arguments | {"chat_template": name} for name in names] or [arguments]
        return (self, *(replace(self, arguments=one) for one in others if one != self.arguments))

    def _wrote(self, text: str) -> bool:
        """Whether this template made the text."""
        try:
            openings, closing, begun = self._openings, self._closing, self._begun_answer
        except UserError:  # The template cannot be applied at all.
            return False
        text = text.strip()
        if closing and text.endswith(closing):
            before = text.removesuffix(closing)
            return not openings or any(opening in before for opening in openings)
        begins = text.startswith(self._beginnings)
        if not closing:
            return begins
        # The answer has begun. Only special tokens show that this is no transcript in a prompt.
        if not begun or not begins:
            return False
        user, _, _ = text.rpartition(begun)
        return any(self._special.search(opening) and opening in user for opening in openings)

    @cached_property
    def _openings(self) -> tuple[str, ...]:
        """The marks that may stand before a user's or a system text.

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
        """The output after the last user's text, up to the opened answer; "" if it is not a mark.

        Raises:
            UserError: the template cannot be applied.
        """
        tail = self._around_user[1].rstrip()
        return tail if self._is_mark(tail) else ""

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """How a rendered chat may begin, including the token that begins every text."""
        before = self._beside_system[0] if self._beside_system else ""
        starts = (self._around_user[0], before, self._later_head or "")
        return tuple(start.strip() for start in starts if self._is_mark(start))

    @cached_property
    def _begun_answer(self) -> str:
        """The output between a user's text and an answer; "" if it has no special tokens."""
        turns = [user_turn(USER_PROBE), {"role": "assistant", "content": ANSWER_PROBE}]
        try:
            chat = self._write(turns, add_generation_prompt=False)
        except BadTemplate:
            return ""
        mark, answer, _ = chat.partition(USER_PROBE)[2].partition(ANSWER_PROBE)
        return mark.strip() if answer and self._special.search(mark) else ""

    def _is_mark(self, text: str) -> bool:
        """Whether a piece of output has a special token or a word; blanks prove nothing."""
        return bool(re.search(r"\w", text) or self._special.search(text))

    @property
    def _bos(self) -> str:
        return getattr(self.tokenizer, "bos_token", None) or ""

    # --- the template's own system text

    def _own_system_text(self, head: str) -> str:
        """Return the text of `_own_turn` without its markers, as far as they are known."""
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
        """A pattern for the tokenizer's special tokens, and for what looks like one."""
        tokens = {*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}
        longest_first = sorted(filter(None, tokens), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), r"<\|[^|<>]*\|>"]))

    def _words(self, text: str) -> str:
        """Remove special tokens, the name of the system role and the user's words from a text."""
        text = text.replace(USER_PROBE, "")  # Some templates write it twice.
        text = self._special.sub("", text)
        return re.sub(r"^\W*(system|developer)\s*(:|\n|$)", "", text, flags=re.I).strip()

    def _left_of_own(self, text: str) -> str | None:
        """Return the lines of `inserted` that stand in `text`."""
        lines = [line.strip() for line in (self.inserted or "").splitlines()]
        return "\n".join(line for line in lines if re.search(r"\w", line) and line in text) or None

    def _write_without_own(self, turns: Messages, **options: Any) -> str:
        """Render `turns` without the text that the template inserts by itself.

        The first user turn gets the head of a later one. If the template has no later turns, an
        empty system turn replaces its own.

        Raises:
            NoPlace: the text cannot be removed, or stays beside another system text.
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
            # The head may hold a date, so it is written again.
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
                f"system=none: the chat template of {self.owner} inserts {left!r}, and this cannot "
                "be removed; leave system=none out, or give "
                "tokenizer=<one with another template>."
            )
        return self._write([empty, *turns], **options)

    # --- checks of the output

    def _placed(self, text: str, turns: Messages) -> Messages:
        """Put a system text into the system turn, or in front of the first user turn.

        Raises:
            NoPlace: the template has no system turn, and the chat no user turn.
        """
        if self.shows_system:
            return [{"role": "system", "content": text}, *turns]
        first = next((i for i, turn in enumerate(turns) if turn["role"] == "user"), None)
        if first is None:
            raise NoPlace(
                f"The chat template of {self.owner} writes no system turn, and the chat has no "
                "user turn, so there is no place for a system text; give "
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
        """Check that the output has the text of every turn, in the order of the turns.

        Raises:
            BadTemplate: the text of a turn is missing, or stands after that of a later turn.
        """
        end = 0
        for turn in turns:
            content = turn["content"].strip()
            # Some templates write a system text into the last user turn.
            begin = text.find(content, 0 if turn["role"] == "system" else end)
            if begin < 0:
                raise BadTemplate(
                    f"The chat template of {self.owner} loses or changes the text of turn "
                    f"{turns.index(turn) + 1} of {len(turns)}, the {turn['role']}'s "
                    f"({len(content)} characters); give tokenizer=<one with another template>, or "
                    "chat=off."
                )
            if turn["role"] != "system":
                end = begin + len(content)


def _split(messages: Messages) -> tuple[str, Messages]:
    """Split a chat into the system text that it begins with and the other turns."""
    begun = bool(messages) and messages[0]["role"] == "system"
    return (messages[0]["content"] if begun else ""), messages[begun:]


def _is_huge(factor: nodes.Expr) -> bool:
    """Whether a factor is a number above a million that is written in the template."""
    return (
        isinstance(factor, nodes.Const)
        and isinstance(factor.value, (int, float))
        and abs(factor.value) > 10**6
    )


def _is_text(words: str) -> bool:
    return len(re.findall(r"\w+", words)) > _FEW_WORDS


def _shared_ending(one: str, other: str) -> str:
    return os.path.commonprefix([one[::-1], other[::-1]])[::-1]
