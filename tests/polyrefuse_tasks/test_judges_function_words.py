"""Which languages small words are of, and the count of them."""

from polyrefuse_tasks.judges.function_words import Tally, languages_of_words, tally_of_words


def test_a_tally_counts_for_every_language() -> None:
    tally = Tally({"glor": "ab", "bas": "b", "tin": "c"})
    assert tally.words == {"glor", "bas", "tin"}
    assert tally.counts(["glor", "bas", "glor"]) == {"a": 2, "b": 3, "c": 0}
    assert tally.most(["glor", "tin", "tin"]) == 2
    assert tally.most([]) == 0
    assert tally.counts(["bas"] * 255)["b"] == 255


def test_small_words_are_tallied_as_they_are_listed() -> None:
    words = ["the", "nicht", "avec", "la", "de"]
    counts = tally_of_words().counts(words)
    for code, n in counts.items():
        assert n == sum(code in languages_of_words()[word] for word in words)
    assert counts["de"] == 1 and counts["fr"] == 3
