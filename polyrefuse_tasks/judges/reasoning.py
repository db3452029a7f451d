"""Removes a model's reasoning: what is judged is what its user is shown."""

import re

_TAG = r"(?:think|thinking|reasoning)\s*>"
_BLOCK = re.compile(rf"<{_TAG}.*?</{_TAG}", re.IGNORECASE | re.DOTALL)
_OPENING = re.compile(rf"<{_TAG}", re.IGNORECASE)
_CLOSING = re.compile(rf"</{_TAG}", re.IGNORECASE)

_HARMONY_TOKEN = re.compile(r"<\|[a-z]+\|>")
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")

# Decoding with skip_special_tokens leaves the channel's name glued to the text's first letter
# ("analysisWe need to ..."). No text opens like that by itself: an answer which begins with the
# word ("analysis of variance", "Analysis: ...") has a space or a mark after it.
_HARMONY_PLAIN = re.compile(r"\s*analysis(?=[^\W_])")
_HARMONY_PLAIN_FINAL = "assistantfinal"


def strip_reasoning(response: str) -> str | None:
    """The answer without the model's reasoning, or None where the reasoning never ended.

    Understands `<think>`, `<thinking>` and `<reasoning>` blocks, any number of them, a closing tag
    whose opening one stood in the prompt's template, and the channels of gpt-oss (harmony), with
    special tokens and without. A response without any of these is returned as it is.

    Source of the channels' form: https://cookbook.openai.com/articles/openai-harmony.
    """
    if "<|channel|>" in response:
        return _harmony_answer(response)
    if _HARMONY_PLAIN.match(response):
        _, final, answer = response.rpartition(_HARMONY_PLAIN_FINAL)
        return answer if final else None
    return _tagged_answer(response) if "<" in response else response


def _harmony_answer(response: str) -> str | None:
    answers = list(_HARMONY_FINAL.finditer(response))
    if not answers:
        return None
    return _HARMONY_TOKEN.split(response[answers[-1].end() :], maxsplit=1)[0]


def _tagged_answer(response: str) -> str | None:
    # What is left of closing tags once whole blocks are gone belongs to the prompt's template.
    answer = _CLOSING.split(_BLOCK.sub("", response))[-1]
    return None if _OPENING.search(answer) else answer
