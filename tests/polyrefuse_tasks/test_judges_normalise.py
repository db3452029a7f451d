"""One spelling for what readers take for the same words."""

import pytest

from polyrefuse_tasks.judges.normalise import drop_marks, drop_spaces, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can’t", "i can't"),
        ("I can´t", "i can't"),
        ("I can`t", "i can't"),
        ("„Nein“ – «non»", '"nein" - "non"'),
        ("**I** _cannot_ ~~help~~", "i cannot help"),
        ("## No\n- one\n2. two\n> three", "no one two three"),
        ("I  can\nnot\u00a0 help", "i can not help"),
        ("ＳＯＲＲＹ！", "sorry!"),
        ("ﾃﾞｷﾏｾﾝ", "デキマセン"),
        ("can\u200bnot", "cannot"),
        ("STRASSE Straße", "strasse strasse"),
        ("，：（）？！；", ",:()?!;"),
        ("ไม่ทำ", "ไม่ทํา"),
        ("désolé , mais", "désolé, mais"),
        ("1990 was warm", "1990 was warm"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ṣùgbọ́n mi ò lè", "sugbon mi o le"),
        ("لا أَسْتَطِيعُ", "لا استطيع"),
        ("عـــذراً آسف", "عذرا اسف"),
    ],
)
def test_drop_marks(text: str, expected: str) -> None:
    assert drop_marks(text) == expected


def test_drop_spaces() -> None:
    assert drop_spaces("도와드릴 수 없습니다") == "도와드릴수없습니다"
