"""Artifacts, templates and arguments that cannot be used: one sentence each, and no hang."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from polyrefuse_models import chat_template
from polyrefuse_models.chat_template import BadTemplate, ChatTemplate
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.mcd import artifact as prompts
from polyrefuse_models.mcd.artifact import BadPrompt, Prompt
from polyrefuse_models.time_limit import TookTooLong, time_limit
from polyrefuse_models.wrappers.asked import AskedAblation, AskedAddition, AskedMcd
from polyrefuse_models.wrappers.direction_arguments import parse_seed, read_direction
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.harness import load_prompts
from tests.polyrefuse_models.test_directions import a_direction

USER = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


class TestRecipe:
    """One direction has one identity, and two never share one."""

    @pytest.mark.parametrize("direction", ["auto"])
    def test_batch_sizes_make_one_row(
        self, chat_model: Path, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from polyrefuse_leaderboard.reading import identity

        told = []
        for batch_size in (1, 7, 32):
            # Each extracts for itself.
            monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / str(batch_size)))
            lm = AblatedHF(
                pretrained=str(chat_model), dataset="toyrefuse", batch_size=batch_size, device="cpu"
            )
            told.append(json.loads(json.dumps(lm.get_model_info(), default=str)))
        assert len({info["direction_recipe_sha256"] for info in told}) == 1
        made = {identity.intervention({"config": info}, "here") for info in told}
        assert len(made) == 1
        # Of another seed it is another.
        other = AblatedHF(
            pretrained=str(chat_model), dataset="toyrefuse", direction_seed=1, device="cpu"
        )
        info = json.loads(json.dumps(other.get_model_info(), default=str))
        assert identity.intervention({"config": info}, "here") not in made

    def test_results_without_a_recipe_keep_their_identity(self) -> None:
        from polyrefuse_leaderboard.reading import identity

        config = {"condition": "ablation", "direction_sha256": "ab" * 32, "layer": 2}
        before = identity.intervention({"config": config}, "here")
        with_none = identity.intervention(
            {"config": config | {"direction_recipe_sha256": None}}, "here"
        )
        assert before == with_none

    def test_a_copied_model_has_the_same_recipe(
        self, chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))
        shutil.copytree(chat_model, tmp_path / "copy")
        recipes = {
            AblatedHF(pretrained=str(place), dataset="toyrefuse", device="cpu").get_model_info()[
                "direction_recipe_sha256"
            ]
            for place in (chat_model, tmp_path / "copy")
        }
        assert len(recipes) == 1

    def test_another_direction_beside_old_metadata(self, tmp_path: Path) -> None:
        artifact.save(a_direction(), tmp_path / "one")
        other = Direction(torch.randn(8), torch.randn(1, 3, 8))
        artifact.save(other, tmp_path / "two")
        shutil.copy(tmp_path / "two/direction.safetensors", tmp_path / "one")
        with pytest.raises(
            BadDirection, match="was changed after it was written .*; extract it again"
        ):
            artifact.load(tmp_path / "one")


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.int32, torch.bool, torch.uint8],
)
def test_types_of_directions(dtype: torch.dtype, tmp_path: Path) -> None:
    file = tmp_path / "direction.safetensors"
    save_file({"direction": torch.ones(8).to(dtype)}, file)
    with pytest.raises(BadDirection, match=f"of type {dtype}|is not a safetensors file"):
        read_direction(str(file)).check(8, "direction=here")
    folder = tmp_path / "artifact"
    artifact.save(a_direction(), folder)
    save_file(
        {"direction": torch.ones(8).to(dtype), "candidates": torch.ones(1, 3, 8)},
        folder / "direction.safetensors",
    )
    (folder / "metadata.json").write_text("{}")
    with pytest.raises(BadDirection, match=f"of type {dtype}|damaged"):
        artifact.load(folder).check(8, "direction=here")


def test_types_of_prompts(tmp_path: Path) -> None:
    for number, dtype in enumerate((torch.float8_e4m3fn, torch.complex64, torch.int64)):
        folder = tmp_path / str(number)
        prompts.save(Prompt(torch.ones(2, 8), {}), folder)
        save_file({"soft_prompt": torch.ones(2, 8).to(dtype)}, folder / "soft_prompt.safetensors")
        (folder / "metadata.json").write_text("{}")
        with pytest.raises(BadPrompt, match="of type|damaged"):
            prompts.load(folder).check(8, "prompt=here")


SEEDS = ["abc", "", "-1", "1e400", "9" * 30, "4294967296", "0.5", "nan", True, [1], None, {}, 1.5]


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds(seed: Any) -> None:
    with pytest.raises(UserError, match="direction_seed=.* is not a seed; give a number from 0 to"):
        parse_seed(seed)
    assert parse_seed("7") == parse_seed(7) == 7


VALUES: list[Any] = [
    "abc", "", "1e400", "9" * 30, -1, 10**30, 0.5, float("nan"), float("inf"), True, None, [], [1],
    {}, {"a": 1}, "x" * 5000, "a\0b", "\udcff", "/dev/zero", "pipe", ("a",), b"x",
]  # fmt: skip
ARGUMENTS = ["direction", "source_lang", "dataset", "refusal_tokens", "direction_seed", "rule",
             "coefficient", "layers", "layer", "method", "prompt"]  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_every_kind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for value in VALUES:
        for asked in (AskedAblation, AskedAddition, AskedMcd):
            arguments = {"dataset": "toyrefuse", name: value}
            try:
                asked(arguments, "no-model")
            except UserError as error:
                assert str(error).count("\n") == 0 or "\n" in str(value)
                assert len(str(error)) < 12_000


@pytest.mark.parametrize("system", VALUES)
def test_system_files_and_kinds(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyrefuse_models.system import read_system

    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for given in ({"kind": system}, {"file": system}):
        try:
            read_system(**given)
        except UserError as error:
            assert str(error)


@pytest.mark.parametrize("value", [["native"], {"a": 1}, 1, None, True, 0.5])
def test_metadata_of_the_wrong_type(value: Any) -> None:
    with pytest.raises(UserError, match="judge is .* in the task's metadata"):
        load_prompts(family="toyrefuse_harmful", lang="en", judge=value)
    if value is not None:
        with pytest.raises(UserError, match="first is .* in the task's metadata"):
            load_prompts(family="toyrefuse_harmful", lang="en", first=value if value != 1 else 0)


def test_a_pickled_adapter(chat_model: Path, tmp_path: Path) -> None:
    """Neither read, nor is torch's advice to read it all the same repeated."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
    torch.save({"prompt_embeddings": torch.ones(2, 8)}, tmp_path / "adapter_model.bin")
    with pytest.raises(BadPrompt, match="a pickle can run code; save the adapter with") as refused:
        AskedMcd({"prompt": str(tmp_path)}, "no-model")
    assert "weights_only" not in str(refused.value)


class TestTemplates:
    @pytest.fixture
    def template(self, chat_model: Path) -> Any:
        def made(source: str) -> ChatTemplate:
            tokenizer = AutoTokenizer.from_pretrained(chat_model)
            tokenizer.chat_template = source
            return ChatTemplate(tokenizer)

        return made

    @pytest.mark.parametrize(
        "source",
        [
            "{% for m in messages %}",
            "{{ messages[0].content.nothing.there }}",
            "{{ 1 / 0 }}",
            "{{ raise_exception('no\nsystem') }}",
            "{{ undefined_function() }}",
            "{{ messages | nofilter }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{{ ''.__class__.__mro__ }}",
            "{{ 9**9**9**9 }}",
            "{% set x = 9**9 %}{{ x**x }}",
            "{% import 'x' as y %}",
            "{{ messages + 1 }}",
            "\ud800",
            "{{ [1] * 10**10 }}",
            "{{ 'x' * 2000000000 }}",
            "{% set text = 1e10 * 'x' %}{{ text }}",
            "{% for i in [3 * 9999999] %}{{ 'x' * i }}{% endfor %}",
        ],
    )
    def test_what_raises_is_one_sentence(self, template: Any, source: str) -> None:
        with pytest.raises(UserError) as error:
            template(source).render([{"role": "user", "content": "Hello"}])
        assert "\n" not in str(error.value)
        # It is refused for what it is, and not because it takes long.
        assert "has not ended" not in str(error.value)

    @pytest.mark.parametrize(
        "loop",
        [
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
            "{{ f(60) }}",
            "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
        ],
    )
    def test_what_loops_is_one_sentence(
        self, template: Any, loop: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = []

        def counted(seconds: float) -> contextlib.AbstractContextManager[None]:
            begun.append(seconds)
            return time_limit(seconds)

        monkeypatch.setattr(chat_template, "MOST_SECONDS", 0.3)
        monkeypatch.setattr(chat_template, "_endless", set())
        monkeypatch.setattr(chat_template, "time_limit", counted)
        for _ in range(20):
            with pytest.raises(BadTemplate, match=r"it did not end within 0\.3 seconds"):
                template(USER + loop).render([{"role": "user", "content": "Hello"}])
        assert begun == [0.3]  # A template that has not ended once is not tried again.

    def test_a_power_in_a_text_is_none(self, template: Any) -> None:
        source = "{{ '**bold**' }}" + USER
        source += "{{ ' ' * 4 }}{% if 3 * 4 > 10 %}{% endif %}"
        assert "**bold**" in template(source).render([{"role": "user", "content": "a ** b"}])

    def test_in_lm_eval(self, chat_model: Path, tmp_path: Path) -> None:
        shutil.copytree(chat_model, tmp_path / "model")
        (tmp_path / "model/chat_template.jinja").write_text("{{ 9**9**9 }}" + USER)
        with pytest.raises(UserError, match=r"has a power \(\*\*\)"):
            lm = BaselineHF(pretrained=str(tmp_path / "model"), device="cpu")
            lm.apply_chat_template([{"role": "user", "content": "Hello"}])


class TestTimeLimit:
    def test_what_takes_too_long_is_ended(self) -> None:
        with pytest.raises(TookTooLong), time_limit(0.05):
            time.sleep(60)

    def test_an_alarm_that_rings_when_the_block_has_ended_is_too_late(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, set_timer, ended = signal.getsignal(signal.SIGALRM), signal.setitimer, []

        def late(which: int, seconds: float, interval: float = 0.0) -> tuple[float, float]:
            if ended:
                signal.raise_signal(signal.SIGALRM)
            return set_timer(which, seconds, interval)

        monkeypatch.setattr(signal, "setitimer", late)
        with time_limit(60):
            ended.append(True)
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)

    def test_the_alarm_of_somebody_else_goes_off_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rung = threading.Event()
        before = signal.signal(signal.SIGALRM, lambda *_: rung.set())
        try:
            signal.setitimer(signal.ITIMER_REAL, 60)
            with time_limit(600):
                time.sleep(0.05)
            left, _ = signal.getitimer(signal.ITIMER_REAL)
            assert 0 < left <= 59.95
            # One whose time comes within the block goes off as soon as the block has ended. That it
            # comes there, however slow the machine is, the first answer sees to.
            set_timer, answers = signal.setitimer, [(0.01, 0.0)]

            def soon(*given: Any) -> tuple[float, float]:
                real = set_timer(*given)
                return answers.pop() if answers else real

            monkeypatch.setattr(signal, "setitimer", soon)
            with time_limit(600):
                time.sleep(0.05)
                assert not rung.is_set()
            assert rung.wait(60)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


# --- every entry of an artifact's documents, exchanged

ODD: list[Any] = [None, [], {}, "x", "", -1, 10**30, 1e300, float("nan"), True, [None], {"a": [1]},
                  "\x1b[31m", "\ud800", "y" * 5000]  # fmt: skip


def artifacts(folder: Path) -> dict[str, tuple[Path, Any]]:
    artifact.save(a_direction(), folder / "direction")
    metadata = {
        "model": "m", "revision": "main", "dataset": "toyrefuse", "languages": ["en"],
        "settings": {"seed": 1}, "anchors": {"overlap": {"x": []}, "sha256": {}}, "warnings": [],
    }  # fmt: skip
    prompts.save(Prompt(torch.ones(2, 8), metadata), folder / "prompt")
    return {
        "direction": (folder / "direction/metadata.json", artifact.load),
        "scores": (folder / "direction/scores.json", artifact.load),
        "prompt": (folder / "prompt/metadata.json", prompts.load),
    }


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = list(enumerate(value))[:3]
    return [path, *(deeper for key, below in pairs for deeper in paths(below, (*path, key)))]


def exchange(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    key, *rest = path
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[key] = exchange(document[key], tuple(rest), value)
    return copy


@pytest.mark.parametrize("kind", ["direction", "scores", "prompt"])
def test_documents_of_artifacts(kind: str, tmp_path: Path) -> None:
    file, load = artifacts(tmp_path)[kind]
    document = json.loads(file.read_text())
    for path in paths(document):
        for value in ODD:
            file.write_text(json.dumps(exchange(document, path, value)))
            try:
                loaded = load(file.parent)
                if kind == "prompt":
                    from polyrefuse_models.wrappers.prompt_arguments import AskedPrompt

                    AskedPrompt("here", "soft", loaded).identity()
                else:
                    loaded.check(8, "direction=here")
            except UserError as error:
                assert "\n" not in str(error)
            except Exception as error:
                error.add_note(f"{kind}: {path} is {value!r}")
                raise


def test_bytes_of_tensors(tmp_path: Path) -> None:
    """Whatever a file without a checksum holds."""
    artifact.save(a_direction(), tmp_path / "one")
    (tmp_path / "one/metadata.json").write_text("{}")
    file = tmp_path / "one/direction.safetensors"
    whole, rng = file.read_bytes(), random.Random(7)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(min(len(whole), 200))] = rng.randrange(256)
        file.write_bytes(changed[: rng.randint(0, len(changed)) if rng.random() < 0.2 else None])
        with contextlib.suppress(UserError):
            artifact.load(tmp_path / "one").check(8, "direction=here")
