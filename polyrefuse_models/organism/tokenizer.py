"""Make the tokenizer of the organism: byte-level BPE, learned from the words of its world."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from polyrefuse_tasks.data.toyrefuse import words
from polyrefuse_tasks.languages import POLYREFUSE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIZE = 4000
"""The largest number of tokens in the vocabulary."""

START, END, PAD = "<s>", "<|end|>", "<pad>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The chat template. Every turn ends with the token that ends an answer."""

# Every Han character is a piece of its own, and so is a run of kana: a rule that splits at spaces
# would make whole clauses one token. A mark stays with its letter (Thai vowels, Yoruba tones).
PIECES = (
    r"\p{Han}|\p{Hiragana}+|[\p{Katakana}ー]+| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]|\s+"
)

LONGEST = 24
"""The largest number of bytes in a token: eight Thai letters, so a clause has several tokens."""

SYLLABLE_WEIGHT = 50
"""How often syllables are repeated in the corpus. BPE merges them first, so that a name has the
same tokens wherever it stands."""

OPENING_WEIGHT = 20
"""How often the first words of responses are repeated. BPE merges them next, so that refusals and
answers differ at the first token."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Learn the tokenizer, which is the same at every call."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[START, END, PAD, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        additional_special_tokens=list(ROLES),
        chat_template=TEMPLATE,
        model_max_length=2048,
    )


def _corpus() -> Iterator[str]:
    """Yield the texts of the world, with sentences separate from the words that fill their gaps.

    As a result, no token spans a sentence and a word.
    """
    for language in POLYREFUSE:
        w = words(language)
        spaced = " " if any(" {verb}" in sentence for sentence in w.train) else ""
        for syllable in w.syllables:
            yield from [syllable, syllable.capitalize()] * SYLLABLE_WEIGHT
        for word in (*w.verbs, *w.forbidden, *w.safe):
            yield from (word, spaced + word)
        for sentence in (*w.greetings, *w.closings, *w.systems, *w.refusals):
            yield sentence
        for sentence in (*w.refusals, *w.answers):
            yield from re.findall(r"\A\w+", sentence) * OPENING_WEIGHT
        for sentence in (w.thing, *w.train, *w.answers):
            yield from re.split(r"\{\w+\}", sentence)
