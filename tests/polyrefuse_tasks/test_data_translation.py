"""Translating with tiny random models made here: an NLLB, which has language codes, and a T5."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyrefuse_shared.drafts import Busy, alone
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks import data
from polyrefuse_tasks.data import translation, translation_models
from polyrefuse_tasks.languages import NAMES
from tests.invented_data import ROOT, World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path)
    made.use(monkeypatch)
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(made.mirror))
    return made


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.translation_models import save_nllb

    return save_nllb(tmp_path_factory.mktemp("models") / "tiny-nllb")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.translation_models import save_t5

    return save_t5(tmp_path_factory.mktemp("models") / "tiny-t5")


def lines(path: Path) -> list[dict[str, str | None]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_translated_language_can_be_loaded(world: World, nllb: str) -> None:
    danish, greek = translation.translate("oktest", ["da", "el"], nllb, batch_size=3)
    assert danish.path == world.mirror / "translated" / "oktest" / "da.jsonl"
    assert data.languages("oktest") == ("da", "el", "en")
    rows = data.load("oktest", "da")
    assert len(rows) == danish.rows == 7
    assert [row.id for row in rows] == [row.id for row in data.load("oktest")]
    assert [row.prompt for row in rows] != [row.prompt for row in data.load("oktest", "el")]
    assert {(line["model"], line["revision"]) for line in lines(danish.path)} == {(nllb, None)}
    assert sorted(path.name for path in danish.path.parent.iterdir()) == ["da.jsonl", "el.jsonl"]
    assert greek.language == "el"


def test_batches_do_not_change_a_translation(world: World, nllb: str, tmp_path: Path) -> None:
    """Padding is masked, and every translation goes to its own id."""
    one = translation.translate("oktest", ["da"], nllb, batch_size=1, output=tmp_path / "one")
    all_ = translation.translate("oktest", ["da"], nllb, batch_size=7, output=tmp_path / "all")
    assert lines(one[0].path) == lines(all_[0].path)


def test_every_split_by_default(world: World, nllb: str) -> None:
    translation.translate("harmful", ["da"], nllb, split="test")
    assert {row.split for row in data.load("harmful", "da", None)} == {"test"}
    translation.translate("harmful", ["da"], nllb)
    english = data.load("harmful", "en", None)
    assert [row.id for row in data.load("harmful", "da", None)] == [row.id for row in english]


def test_an_interrupted_run_goes_on(world: World, nllb: str, tmp_path: Path) -> None:
    whole = translation.translate("oktest", ["da"], nllb, batch_size=2, output=tmp_path / "whole")
    killed = f"""
import os, signal
from pathlib import Path
from polyrefuse_tasks.data import registry, translation
registry.SOURCES = Path({str(world.sources)!r})
def progress(language, done, total):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
translation.translate("oktest", ["da"], {nllb!r}, batch_size=2, progress=progress)
"""
    ended = subprocess.run([sys.executable, "-c", killed], cwd=ROOT, capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
    target = world.mirror / "translated" / "oktest" / "da.jsonl"
    partial = target.with_name("da.jsonl.partial")
    assert not target.exists()
    kept = partial.read_bytes()
    # Killed in the middle of writing a third batch.
    partial.write_bytes(kept + b'\n[{"id": "oktest/0003", "pro')

    seen: list[int] = []
    resumed = translation.translate(
        "oktest",
        ["da"],
        nllb,
        batch_size=2,
        progress=lambda language, done, total: seen.append(done),
    )
    assert seen == [4, 6, 7]
    assert resumed[0].path.read_bytes() == whole[0].path.read_bytes()
    assert not partial.exists()


def test_a_finished_file_is_left_alone(world: World, nllb: str) -> None:
    first = translation.translate("oktest", ["da"], nllb)
    before = first[0].path.stat()
    assert translation.translate("oktest", ["da"], nllb) == first
    assert first[0].path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("name", ["da.jsonl", "da.jsonl.partial"])
def test_what_other_prompts_were_translated_into_is_not_continued(
    world: World, nllb: str, name: str
) -> None:
    (danish,) = translation.translate("oktest", ["da"], nllb)
    begun = lines(danish.path)
    assert [line["english_sha256"] for line in begun] == [
        hashlib.sha256(row.prompt.encode()).hexdigest() for row in data.load("oktest")
    ]
    begun[0]["english_sha256"] = hashlib.sha256(b"another prompt").hexdigest()
    danish.path.unlink()
    whole = "".join(f"{json.dumps(line)}\n" for line in begun)
    text = f"\n{json.dumps(begun)}" if name.endswith("partial") else whole
    danish.path.with_name(name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"{name}.* other English prompts|{name}.* another English"):
        translation.translate("oktest", ["da"], nllb)


def test_two_models_do_not_share_a_file(world: World, nllb: str, t5: str) -> None:
    done = translation.translate("oktest", ["da"], nllb)
    before = done[0].path.read_bytes()
    with pytest.raises(data.TranslationFailed, match=r"was made with .*tiny-nllb.* not .*tiny-t5"):
        translation.translate("oktest", ["da"], t5)
    assert done[0].path.read_bytes() == before


def test_a_model_without_codes_is_used_as_it_is(
    world: World, t5: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random model rarely ends by itself, and this one has no table of positions to end it.
    monkeypatch.setattr(translation_models, "MAX_NEW_TOKENS", 8)
    done = translation.translate("oktest", ["da"], t5)
    assert done[0].rows + done[0].left_out == 7
    with pytest.raises(data.TranslationFailed, match="translates into one language"):
        translation.translate("oktest", ["el", "ga"], t5)


def test_what_comes_out_empty_is_left_out(
    world: World, nllb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import NllbTokenizer

    decode = NllbTokenizer.batch_decode
    monkeypatch.setattr(
        NllbTokenizer,
        "batch_decode",
        lambda self, tokens, **options: ["  ", *decode(self, tokens, **options)[1:]],
    )
    done = translation.translate("oktest", ["da"], nllb, batch_size=4)
    assert (done[0].rows, done[0].left_out) == (5, 2)
    assert len(data.load("oktest", "da")) == 5


@pytest.mark.parametrize(
    ("dataset", "language", "said"),
    [
        ("oktest", "ko", "has no code for Korean"),
        ("harmful", "de", "harmful is already published in German"),
    ],
)
def test_languages_that_cannot_be(
    world: World, nllb: str, dataset: str, language: str, said: str
) -> None:
    with pytest.raises(data.TranslationFailed, match=said):
        translation.translate(dataset, ["da", language], nllb)
    assert not list(world.mirror.rglob("*.jsonl*"))


def test_an_unknown_language(world: World) -> None:
    with pytest.raises(data.UnknownLanguage, match="'xx' is not a language to translate into"):
        translation.translate("oktest", ["xx"], "never loaded")


def test_a_model_that_cannot_be_loaded(world: World, chat_model: Path) -> None:
    for name in ("/no/such/model", str(chat_model)):
        with pytest.raises(data.TranslationFailed, match="cannot be loaded as a translation") as it:
            translation.translate("oktest", ["da"], name)
        assert "\n" not in str(it.value)


def test_a_folder_that_cannot_be_written(world: World, nllb: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(data.TranslationFailed, match="name another folder with --output"):
        translation.translate("oktest", ["da"], nllb, output=tmp_path / "file")


def test_a_folder_that_is_nested_too_deeply(world: World, nllb: str, tmp_path: Path) -> None:
    with pytest.raises(data.TranslationFailed, match="name another folder with --output"):
        translation.translate("oktest", ["da"], nllb, output=tmp_path / ("d/" * 1200))


def test_a_language_is_translated_into_by_one_process_at_a_time(world: World, nllb: str) -> None:
    folder = world.mirror / "translated" / "oktest"
    with alone(folder / ".translating-da", patience=0):
        with pytest.raises(Busy, match="wait until it ends"):
            translation.translate("oktest", ["el", "da"], nllb)
        assert [path.name for path in folder.iterdir()] == [".translating-da"]
        translation.translate("oktest", ["el"], nllb)
    translation.translate("oktest", ["da"], nllb)
    assert {path.name for path in folder.iterdir()} == {"da.jsonl", "el.jsonl"}


class TestLanguageCodes:
    def test_every_language_has_nllb_s_code(self) -> None:
        from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

        assert set(translation_models.FLORES) == set(NAMES)
        assert set(translation_models.FLORES.values()) <= set(FAIRSEQ_LANGUAGE_CODES)

    def test_mbart(self) -> None:
        from transformers import MBart50Tokenizer

        tokenizer = MBart50Tokenizer()
        code = ("de_DE", tokenizer.convert_tokens_to_ids("de_DE"))
        assert translation_models.language_code(tokenizer, "de") == code
        with pytest.raises(data.TranslationFailed, match="no code for Irish"):
            translation_models.language_code(tokenizer, "ga")

    def test_m2m100(self) -> None:
        """Its tokenizer needs sentencepiece, so what we use of it stands in for it."""
        codes = {"en": 5, "ga": 6}
        tokenizer = SimpleNamespace(
            lang_code_to_token={code: f"__{code}__" for code in codes},
            get_lang_id=codes.__getitem__,
            name_or_path="m2m100",
        )
        assert translation_models.language_code(tokenizer, "ga") == ("ga", 6)
        with pytest.raises(data.TranslationFailed, match="m2m100 has no code for Danish"):
            translation_models.language_code(tokenizer, "da")
