"""The published code's rule for soft labels, on invented answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch

from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.mcd import published_labels as rule
from polyrefuse_models.mcd.labels import sampled_answers
from polyrefuse_models.mcd.published_labels import ended_lines, published_labels, refuses
from polyrefuse_models.mcd.states import under
from tests.polyrefuse_models.test_mcd_train import chat_of, invented


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot open the sealed archive.",
        "Well, I can't help with benches today.",
        "My apologies. The archive stays shut.",
        "Sorry, that bell stays silent.",
        "I am sorry, but the garden is closed.",
        "I don't paint benches.",
        "I'm really sorry about the bench.",
        "The archive?\n\nI am unable to open it.\nHere is a poem instead.",
        "I am not able to say. 1. Open it. 2. Close it.",
    ],
)
def test_english_phrases_refuse(answer: str) -> None:
    assert refuses(answer, "en")


@pytest.mark.parametrize(
    "answer",
    [
        "Gladly: paint the bench blue.",
        "i cannot open the archive.",  # Case counts.
        "I cannot guarantee that the paint holds, but begin on the left.",
        "I'm not able to ensure dry weather. Begin on the left.",
        "I cannot paint it physically, but you can: begin on the left.",
        "I don't have a brush. Begin on the left.",
        'She said: "Sorry, the archive is shut."',
        "I am sorry to hear of the broken bench. Glue it.",
        "Open it.\nThen read.\nI cannot stop you.",  # Only two lines are read,
        "Steps:\n1. I cannot stress enough: glue first.",  # and none of a list
        "Glue it. 1. I cannot stress enough: glue first.",
        "First I cannot stop you.",
        "Es tut mir leid, aber ich kann dir dabei nicht helfen.",  # Only English ones.
        "",
    ],
)
def test_what_refuses_nothing(answer: str) -> None:
    assert not refuses(answer, "en")


def test_queries_in_another_language_are_refused_in_theirs_too() -> None:
    assert refuses("Es tut mir leid, aber ich kann dir dabei nicht helfen.", "de")
    assert refuses("I cannot open the archive.", "de")
    assert not refuses("Gern: Streiche die Bank blau.", "de")


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("Glue it.\nThen paint\nit in", "Glue it."),
        ("Glue it.\nThen paint.\n\n3.", "Glue it.\nThen paint."),
        ("Glue it, then paint", "Glue it, then paint"),
        ("  Ready?\n\nGo!\n", "Ready?\n\nGo!"),
        ("No end\nnor here", "No end"),
    ],
)
def test_unfinished_lines_at_the_end_are_cut(answer: str, left: str) -> None:
    assert ended_lines(answer) == left


def labels_of(
    monkeypatch: pytest.MonkeyPatch, harmful: list[str], harmless: list[str]
) -> list[float]:
    """Of one harmful query and one harmless one, with these answers."""
    sampled = iter([[harmful], [harmless]])
    monkeypatch.setattr(rule, "sampled_answers", lambda *_, **__: next(sampled))
    return published_labels(
        chat_of(), ["h"], ["s"], "en", answers=len(harmful), max_new_tokens=300, seed=0
    ).tolist()


def test_only_long_answers_to_harmful_queries_comply(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        "Open it.",
        "Open it.\nRead it.",
        "Open it.\nRead it.\nShut it.",
        "Open it.\n\nShut it.",  # An empty line is one.
        "Open it.\nRead it.\nShut",  # The last one was cut.
        "I cannot open it.\nNo.\nIt is shut.",
    ]
    assert labels_of(monkeypatch, answers, answers) == pytest.approx([2 / 6, 5 / 6])


def test_of_25_answers_the_20_with_the_most_words_count(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ["I cannot open it, not now, not ever, and not for you."] * 4
    words = ["Glue it."] * 16
    # Long in characters, and not in words: left out, as is the last of those with two words.
    long = ["Gladly" + "!" * 90] * 5
    assert labels_of(monkeypatch, long + words + refused, long + refused + words) == pytest.approx(
        [0, 16 / 20]
    )
    more = [*long, "Glue it.", *["I cannot ."] * 19]
    assert labels_of(monkeypatch, more, more)[1] == pytest.approx(1 / 20)


@pytest.mark.parametrize(("most", "limits"), [(300, [300, 200]), (40, [40, 40])])
def test_harmless_answers_are_shorter(
    most: int, limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def sampled(chat: ChatModel, prompts: list[str], **how: int) -> list[list[str]]:
        asked.append(how)
        return [["Glue it."] for _ in prompts]

    monkeypatch.setattr(rule, "sampled_answers", sampled)
    published_labels(chat_of(), ["h"], ["s"], "en", answers=1, max_new_tokens=most, seed=0)
    assert [how["max_new_tokens"] for how in asked] == limits
    assert [how["min_new_tokens"] for how in asked] == [10, 10]


def test_an_answer_has_at_least_so_many_tokens() -> None:
    chat = chat_of()
    letters = chat.tokenizer.convert_tokens_to_ids(list("abcdefgh"))
    every = range(chat.model.config.vocab_size)
    chat.model.generation_config.eos_token_id = [i for i in every if i not in letters]
    lengths = {}
    for least in (0, 10):
        texts_of_prompts = sampled_answers(
            under(chat, None),
            invented("en").prompts("en"),
            answers=2,
            min_new_tokens=least,
            max_new_tokens=30,
            seed=1,
        )
        lengths[least] = [len(text) for texts in texts_of_prompts for text in texts]
    assert min(lengths[0]) <= 1
    # All but letters end an answer, so that ten letters come first.
    assert min(lengths[10]) >= 10 and min(lengths[10]) < 30


def test_sampling_leaves_the_random_state_of_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[int]] = []

    @contextmanager
    def fork(devices: Iterable[int]) -> Iterator[None]:
        kept.append(list(devices))
        yield

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.random, "fork_rng", fork)
    sampled_answers(under(chat_of(), None), ["Why?"], answers=1, max_new_tokens=1, seed=0)
    assert kept == [[0, 1, 2]]


def test_sampling_leaves_the_random_state() -> None:
    chat = under(chat_of(), None)
    before = torch.get_rng_state()
    sampled_answers(chat, ["Why?"], answers=1, max_new_tokens=1, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_another_seed_samples_other_answers() -> None:
    chat, anchors = under(chat_of(), None), invented("en")
    how = {"answers": 3, "max_new_tokens": 12}
    harmful, harmless = anchors.harmful["en"], anchors.harmless["en"]
    texts = [sampled_answers(chat, harmful, seed=seed, **how) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    labels = published_labels(chat, harmful, harmless, "en", seed=0, **how)
    assert labels.shape == (12,) and torch.isfinite(labels).all()
