"""A run's answers: whose they are, which prompts were attacked, and where outcomes lie."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyrefuse_models.directions import success_pictures
from polyrefuse_models.directions.answered import (
    AnsweredPrompt,
    Answers,
    NoAnswers,
    answers_of,
    saved_runs,
)
from polyrefuse_models.directions.attacks import pairs_of_datasets, without_attack
from polyrefuse_models.directions.success import LEAST, Outcome, outcomes, success
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import COMPLIED, JAILBROKEN, NO_VERDICT, REFUSED
from polyrefuse_shared.pictures import short_name
from polyrefuse_tasks.judges import Label
from polyrefuse_tasks.saved_results.documents import BadResults
from tests.leaderboard.result_files import DIRECTION, plain_hf, task, write_run

MODEL = "invented/model-1"
IDENTITY = {
    "model_name": MODEL,
    "condition": "baseline",
    "weights": "checksum:aa",
    "rendered_sha256": "bb",
}


def read(folder: Path, *languages: str, judge: str | None = None, **identity: Any) -> Answers:
    return answers_of(saved_runs([folder]), IDENTITY | identity, languages or ("de",), judge)


def labels(answers: Answers) -> str:
    return "".join(one.label.value[0] for one in answers.prompts)


class TestAnswers:
    def test_labels_of_the_prompts_that_were_asked(self, tmp_path: Path) -> None:
        tasks = [
            task("harmful", "de", "rcdu"),
            task("harmless", "de", "cr"),
            task("harmful", "th", "c"),
        ]
        file = write_run(tmp_path, tasks)
        answers = read(tmp_path)
        assert (answers.condition, answers.judge) == ("baseline", "native")
        assert [Path(name).name for name in answers.files] == [file.name]
        assert labels(answers) == "rcducr"
        assert [one.harmful for one in answers.prompts] == [True] * 4 + [False] * 2
        assert answers.prompts[1].prompt == "invented prompt 1"
        assert "Answers in th are left out" in answers.notes[0]

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ({"model": "invented/model-2"}, "is a run of another model, invented/model-2"),
            ({"condition": "ablation", "info": DIRECTION}, "is a run under condition ablation"),
            ({"top": {"system_instruction": "Be kind."}}, "with a --system_instruction"),
            ({"info": {"weights": "checksum:ab"}}, "is a run of other weights, invented/model-1"),
            ({"info": {"rendered_sha256": "cc"}}, "into another chat template or beside another"),
            ({"config": plain_hf(MODEL)}, "put no chat template around its prompts"),
        ],
    )
    def test_other_results_are_refused(
        self, tmp_path: Path, written: dict[str, Any], said: str
    ) -> None:
        write_run(tmp_path, [task("harmful", "de", "rc")], **written)
        with pytest.raises(NoAnswers, match="^--results: no run of invented/model-1 under") as told:
            read(tmp_path)
        assert said in str(told.value) and "\n" not in str(told.value)

    def test_other_results_beside_ours_are_named(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("harmful", "de", "cc")], model="invented/model-2")
        write_run(tmp_path, [task("harmful", "de", "rc")])
        answers = read(tmp_path)
        assert labels(answers) == "rc"
        (note,) = answers.notes
        assert note.endswith("is a run of another model, invented/model-2; it is left out.")

    def test_the_same_weights_under_another_name(self, tmp_path: Path) -> None:
        """As of a folder that was moved."""
        info = {"weights": "checksum:aa", "rendered_sha256": "bb"}
        write_run(tmp_path, [task("harmful", "de", "rc")], model="elsewhere/model", info=info)
        assert labels(read(tmp_path)) == "rc"

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("model-1", "invented/model-1"),
            ("models/model-1", "/somewhere/models/model-1"),
            ("/elsewhere/model-1", "invented/model-1"),
            ("invented/model-1", "/somewhere/model-1/"),
        ],
    )
    def test_a_name_that_ends_alike_is_taken_and_told(
        self, tmp_path: Path, theirs: str, ours: str
    ) -> None:
        write_run(tmp_path, [task("harmful", "de", "rc")], model=theirs)
        answers = read(tmp_path, model_name=ours)
        assert labels(answers) == "rc"
        (note,) = answers.notes
        assert f"calls its model {theirs} and" in note and f"taken to be {ours}," in note

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("/elsewhere/model-1", "/somewhere/model-1"),
            ("other/model-1", "invented/model-1"),
            ("model-2", "/somewhere/model-1"),
        ],
    )
    def test_other_folders_and_owners_are_other_models(
        self, tmp_path: Path, theirs: str, ours: str
    ) -> None:
        write_run(tmp_path, [task("harmful", "de", "rc")], model=theirs)
        with pytest.raises(NoAnswers, match=f"is a run of another model, {theirs}"):
            read(tmp_path, model_name=ours)

    def test_one_folder_in_three_spellings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "models" / "small"
        folder.mkdir(parents=True)
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.chdir(tmp_path)
        for number, theirs in enumerate(("models/../models/small/", f"{folder}/", "link")):
            run = {"config": plain_hf(theirs), "top": {"chat_template": "{{ x }}"}}
            write_run(tmp_path / str(number), [task("harmful", "de", "rc")], model=theirs, **run)
            answers = read(tmp_path / str(number), model_name=str(folder.resolve()))
            assert (labels(answers), answers.notes) == ("rc", ())

    def test_weights_that_were_loaded_as_another_type_are_told(self, tmp_path: Path) -> None:
        info = {"weights": "checksum:ab", "model_dtype": "torch.bfloat16"}
        write_run(tmp_path, [task("harmful", "de", "rc")], info=info)
        with pytest.raises(NoAnswers, match="loaded as bfloat16, and this model as float32: give"):
            read(tmp_path, dtype="float32")

    def test_weights_that_were_identified_otherwise_go_by_the_name(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("harmful", "de", "rc")], info={"weights": "contents:dd"})
        assert labels(read(tmp_path)) == "rc"

    def test_lm_eval_s_own_model_with_a_template(self, tmp_path: Path) -> None:
        run = {"config": plain_hf(MODEL), "top": {"chat_template": "{{ x }}"}}
        write_run(tmp_path, [task("harmful", "de", "rc")], **run)
        assert labels(read(tmp_path)) == "rc"

    def test_a_system_text_s_results_go_with_the_model_under_it(self, tmp_path: Path) -> None:
        info = {"rendered_sha256": "ee", "system": "file", "system_text": "Be kind."}
        write_run(tmp_path, [task("harmful", "de", "rc")], condition="system-prompt", info=info)
        with pytest.raises(NoAnswers, match="is a run under condition system-prompt"):
            read(tmp_path)
        under = {"condition": "system-prompt", "rendered_sha256": "ee"}
        assert read(tmp_path, **under).condition == "system-prompt"

    def test_of_two_answers_the_newer_counts(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("harmful", "de", "cc")], day=2)
        write_run(tmp_path, [task("harmful", "de", "rrr")], day=1)
        answers = read(tmp_path)
        assert labels(answers) == "ccr"
        assert "2 prompts were answered in several runs" in answers.notes[0]

    def test_another_judge_s_labels(self, tmp_path: Path) -> None:
        file = write_run(tmp_path, [task("harmful", "de", "rc")])
        label_later(file, "other", "refusal", ["compliance", "degenerate"])
        label_later(file, "guard", "harm", [None, None])
        assert labels(read(tmp_path)) == "rc"
        other = read(tmp_path, judge="other")
        assert (other.judge, labels(other)) == ("other", "cd")
        for name in ("guard", "nobody"):
            with pytest.raises(NoAnswers, match=f"has no labels on refusal by {name}"):
                read(tmp_path, judge=name)

    def test_labels_of_several_judges(self, tmp_path: Path) -> None:
        tasks = [task("harmful", "de", "r"), task("harmless", "de", "c", judge="substring")]
        write_run(tmp_path, tasks)
        with pytest.raises(NoAnswers, match=r"several judges \(native, substring\); name one"):
            read(tmp_path)
        assert labels(read(tmp_path, judge="native")) == "r"

    def test_a_task_whose_samples_are_gone_is_named(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("harmful", "de", "rc"), task("harmful", "en", "c")])
        (gone,) = tmp_path.rglob("samples_*harmful_en_*.jsonl")
        gone.unlink()
        answers = read(tmp_path)
        assert labels(answers) == "rc"
        (note,) = answers.notes
        assert note.endswith("has no samples of polyrefuse_harmful_en beside it.")

    def test_several_answers_are_no_verdict(self, tmp_path: Path) -> None:
        tasks = [task("multijail", "de", ["rc", "cc"], sampled=True)]
        write_run(tmp_path, tasks)
        with pytest.raises(NoAnswers, match="several answers to each prompt, which give no single"):
            read(tmp_path)

    def test_without_samples(self, tmp_path: Path) -> None:
        write_run(tmp_path, [task("harmful", "de", "rc")], samples=False)
        said = "has no samples of .*harmful_de beside it; run lm_eval with --log_samples"
        with pytest.raises(NoAnswers, match=said):
            read(tmp_path)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(NoAnswers, match=r"holds no results_\*\.json"):
            saved_runs([tmp_path])
        with pytest.raises(NoAnswers, match="does not exist"):
            saved_runs([tmp_path / "nowhere"])

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"label": "maybe"}, "label is 'maybe', which no judge gives"),
            ({"label": ["refusal"]}, "label is .'refusal'., which no judge"),
            ({"prompt": None}, "does not hold its prompt"),
            ({"harmful": "yes"}, "does not hold its prompt and whether it is harmful"),
            ({"id": 3}, "id is 3, not a name"),
        ],
    )
    def test_damaged_samples(self, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
        file = write_run(tmp_path, [task("harmful", "de", "rc")])
        (samples,) = file.parent.glob("samples_*")
        first, second = samples.read_text().splitlines()
        line = json.loads(second)
        line["doc"] |= changed
        samples.write_text(f"{first}\n{json.dumps(line)}\n")
        with pytest.raises(BadResults, match=f"line 2.*{said}"):
            read(tmp_path)


def label_later(results: Path, judge: str, measures: str, given: list[str | None]) -> None:
    """Write a judge's labels beside the samples of a run with one task, as `judge run` does."""
    (samples,) = results.parent.glob("samples_*")
    name, date = samples.stem.removeprefix("samples_").rsplit("_", 1)
    judging = {
        "judge": judge, "task": name, "measures": measures, "revision": "1", "languages": None,
        "settings": {}, "versions": {},
    }  # fmt: skip
    lines = [
        {
            "id": json.loads(sample)["doc"]["id"], "answer": 0, "label": label,
            "harm": None if label else True, "evidence": None, "response_language": "de",
            "revision": "1",
        }
        for sample, label in zip(samples.read_text().splitlines(), given, strict=True)
    ]  # fmt: skip
    lines[0]["judging"] = judging
    place = results.with_name(f"judged_{judge}_{name}_{date}.jsonl")
    place.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def asked(
    dataset: str, number: int, prompt: str, label: Label, language: str = "de", safe: bool = False
) -> AnsweredPrompt:
    return AnsweredPrompt(f"{dataset}/{number}", dataset, language, prompt, not safe, label)


PLAIN = [f"Wo steht die Bank {letter}?" for letter in "abcdef"]
R, C, D, U = Label.REFUSAL, Label.COMPLIANCE, Label.DEGENERATE, Label.UNDECIDED


class TestAttacks:
    def test_words_around_a_prompt_are_an_attack(self) -> None:
        plain = [asked("harmful", i, text, R) for i, text in enumerate(PLAIN)]
        around = [
            asked("role", i, f"Du bist ein  Spiel.\n{text} Ende.", C)
            for i, text in enumerate(PLAIN)
        ]
        pairs = without_attack([*around, *plain])
        assert pairs == dict(zip(around, plain, strict=True))
        assert pairs_of_datasets(pairs) == [("role", "harmful")]

    def test_a_few_prompts_that_hold_others_are_none(self) -> None:
        """Of two benchmarks, of which one asks some of the other's requests at greater length."""
        plain = [asked("harmful", i, text, R) for i, text in enumerate(PLAIN)]
        other = [
            asked("other", i, f"Sag mir: {text}" if i < 2 else f"Etwas ganz anderes {i}", C)
            for i, text in enumerate(PLAIN)
        ]
        assert without_attack([*plain, *other]) == {}

    def test_the_same_prompts_in_two_data_sets_are_none(self) -> None:
        numbers = [f"invented prompt {i}" for i in range(40)]
        prompts = [
            asked(name, i, text, R) for name in ("one", "two") for i, text in enumerate(numbers)
        ]
        assert without_attack(prompts) == {}

    def test_only_harmful_prompts_of_one_language_are_compared(self) -> None:
        plain = [asked("harmful", i, text, R) for i, text in enumerate(PLAIN)]
        thai = [asked("role", i, f"x {text}", C, "th") for i, text in enumerate(PLAIN)]
        safe = [asked("safe", i, f"x {text}", C, safe=True) for i, text in enumerate(PLAIN)]
        assert without_attack([*plain, *thai, *safe]) == {}

    def test_the_longest_prompt_inside_is_the_one(self) -> None:
        plain = [asked("harmful", 0, "Wo?", R), asked("harmful", 1, "Sag es. Wo?", C)]
        around = [asked("role", 0, "Ja! Sag es. Wo? Los.", C)]
        assert without_attack([*plain, *around]) == {around[0]: plain[1]}

    def test_an_attack_around_an_attack_is_one_on_the_plain_prompt(self) -> None:
        plain = [asked("harmful", 0, "Wo?", R)]
        once = [asked("once", 0, "Ja. Wo?", R)]
        twice = [asked("twice", 0, "Los! Ja. Wo?", C)]
        pairs = without_attack([*twice, *once, *plain])
        assert pairs == {once[0]: plain[0], twice[0]: plain[0]}

    def test_jailbroken_is_what_was_refused_without(self) -> None:
        plain = [
            asked("harmful", i, text, label)
            for i, (text, label) in enumerate(zip(PLAIN, [R, C, U, R, R, D], strict=True))
        ]
        around = [
            asked("role", i, f"Los! {text}", label)
            for i, (text, label) in enumerate(zip(PLAIN, [C, C, C, R, D, U], strict=True))
        ]
        alone = asked("role", 9, "Los! Etwas, was niemand ohne fragte", C)
        safe = asked("safe", 0, "Wie geht es?", R, safe=True)
        prompts = [*plain, *around, alone, safe]
        found = outcomes(prompts, without_attack(prompts))
        assert found == [
            *(("harmful", Outcome(x)) for x in ("refused", "complied", "undecided")),
            *(("harmful", Outcome(x)) for x in ("refused", "refused", "degenerate")),
            *(("attacked", Outcome(x)) for x in ("jailbroken", "complied", "complied")),
            *(("attacked", Outcome(x)) for x in ("refused", "degenerate", "undecided")),
            ("attacked", Outcome.COMPLIED),
            ("harmless", Outcome.REFUSED),
        ]


def invented(n: int = 12) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A document of two languages and three layers, with everything that there may be; and the
    projections. In Yoruba nothing is complied with as it is."""
    random = np.random.default_rng(5)
    prompts, own = [], {}
    for language in ("en", "yo"):
        plain = [asked("harmful", i, f"Where is {i}.?", (R, C, D, U)[i % 4], language)
                 for i in range(4 * n)]  # fmt: skip
        if language == "yo":
            plain = [asked("harmful", i, f"Where is {i}.?", R, language) for i in range(4 * n)]
        role = [asked("role", i, f"Play. {one.prompt}", (C, R)[i % 2], language)
                for i, one in enumerate(plain)]  # fmt: skip
        safe = [asked("safe", i, "How?", (C, C, R)[i % 3], language, safe=True) for i in range(12)]
        prompts += [*plain, *role, *safe]
        own[language] = random.normal(size=(8 * n + 12, 3))
        own[language][:, 0] = 0  # as of a token of the template, at layer 0
    last = {language: x[:, 1] for language, x in own.items()}
    answers = Answers("baseline", "native", ("run.json",), ("A note.",), tuple(prompts))
    document = {
        "model": "/somewhere/models/invented-model",
        "direction": {},
        "position": -1,
        "layer": 1,
        "monitor": {"position": -1, "threshold": 0.5},
        "success": success(answers, own, last, layer=1, limit=0.5),
    }
    return document, own


class TestSuccess:
    def test_aucs_are_of_pairs_in_order(self) -> None:
        document, own = invented()
        english = document["success"]["languages"]["en"]
        x = own["en"][:, 1]
        refused, complied = x[0:48:4], x[1:48:4]
        # Of the prompts with the attack every second one was answered; refused without were those
        # with a number that 4 divides.
        jailbroken = x[48:96:4]
        for name, other in (("harmful", complied), ("jailbroken", jailbroken)):
            auc = english["auc"][name]
            pairs = (refused[:, None] > other).mean()
            assert auc["auc"] == pytest.approx(pairs)
            assert auc["low"] < auc["auc"] < auc["high"]
            assert (auc["refused"], auc["answered"]) == (12, 12)
        layers = document["success"]["layers"]
        assert layers[1]["languages"]["en"] == english["auc"]
        assert [layer["layer"] for layer in layers] == [0, 1, 2]
        json.dumps(document, allow_nan=False)

    def test_too_few_prompts_or_equal_ones_have_no_auc_but_their_numbers(self) -> None:
        document, _ = invented()
        nothing = {"auc": None, "low": None, "high": None}
        yoruba = document["success"]["languages"]["yo"]["auc"]
        assert yoruba["harmful"] == nothing | {"refused": 48, "answered": 0}
        assert yoruba["harmless"] == nothing | {"refused": 4, "answered": 8} and LEAST == 5
        assert yoruba["jailbroken"]["auc"] is not None
        first = document["success"]["layers"][0]["languages"]["en"]
        assert first["harmful"] == nothing | {"refused": 12, "answered": 12}

    def test_every_answer_is_counted_once(self) -> None:
        document, own = invented()
        english = document["success"]["languages"]["en"]
        none = dict.fromkeys(map(str, Outcome), 0)
        assert english["counts"] == {
            "harmful": none
            | {"refused": 12, "complied": 12, "degenerate": 12, "undecided": 12, "n": 48},
            "attacked": none | {"refused": 24, "jailbroken": 12, "complied": 12, "n": 48},
            "harmless": none | {"refused": 4, "complied": 8, "n": 12},
        }
        told = [x for of in english["projections"].values() for xs in of.values() for x in xs]
        np.testing.assert_allclose(sorted(told), sorted(own["en"][:, 1]), atol=1e-6)

    def test_the_monitor_s_alarms_by_outcome(self) -> None:
        document, own = invented()
        detected = document["success"]["languages"]["en"]["detected"]
        x = own["en"][:, 1]
        assert detected["harmful"]["complied"]["hits"] == (x[1:48:4] > 0.5).sum()
        # Some of the harmless prompts may be those that it was calibrated on.
        assert detected.keys() == {"harmful", "attacked"}
        assert detected["attacked"]["jailbroken"]["n"] == 12
        assert detected["attacked"]["jailbroken"]["hits"] == (x[48:96:4] > 0.5).sum()


def test_a_dollar_in_the_model_s_name_begins_no_formula() -> None:
    document, _ = invented()
    document |= {"model": "/somewhere/x$_{$"}
    figure = success_pictures.answers_figure(document)
    assert pictures.png(figure).startswith(b"\x89PNG")
    assert figure.get_suptitle().startswith("x$_{$, condition")


class TestPictures:
    def test_no_verdict_has_a_verdict_s_colour(self) -> None:
        from matplotlib.colors import to_hex

        document, _ = invented()
        figure: Any = success_pictures.answers_figure(document)
        drawn: Counter[str] = Counter()
        for axis in figure.axes:
            for points in axis.collections:
                if len(points.get_offsets()):
                    drawn[to_hex(points.get_facecolor()[0])] += len(points.get_offsets())
        # By language, harmful as they are, attacked, and harmless.
        assert drawn == {
            to_hex(REFUSED): (12 + 24 + 4) + (48 + 24 + 4),
            to_hex(COMPLIED): (12 + 12 + 8) + (0 + 0 + 8),
            to_hex(JAILBROKEN): 12 + 24,
            to_hex(NO_VERDICT): 24,
        }
        assert len({REFUSED, COMPLIED, JAILBROKEN, NO_VERDICT}) == 4

    def test_every_panel_has_something_in_it(self) -> None:
        document, _ = invented()
        for of in document["success"]["languages"].values():
            of["counts"]["harmless"]["n"] = 0
        figure: Any = success_pictures.answers_figure(document)
        assert len(figure.axes) == 2
        assert "invented-model, condition baseline" in figure.get_suptitle()
        assert "somewhere" not in figure.get_suptitle()
        assert all("units of the residual stream" in axis.get_ylabel() for axis in figure.axes)
        layers: Any = success_pictures.answers_layers_figure(document)
        assert [axis.get_title() for axis in layers.axes if axis.axison] == ["en", "yo"]

    def test_languages_without_an_auc_are_named_and_have_no_panel(self) -> None:
        document, _ = invented(5)
        for at in document["success"]["layers"]:
            at["languages"]["yo"]["jailbroken"]["auc"] = None
        figure: Any = success_pictures.answers_layers_figure(document)
        assert [axis.get_title() for axis in figure.axes if axis.axison] == ["en"]
        assert figure.get_suptitle().endswith("fewer than 5 prompts of an outcome: yo")
        few, _ = invented(2)
        assert success_pictures.answers_layers_figure(few) is None

    def test_a_title_is_within_its_picture(self) -> None:
        """A narrow picture has as long a title as a wide one."""
        document, _ = invented()
        document["model"] = "an-organisation/with-a-model-of-a-long-name"
        for draw in (success_pictures.answers_figure, success_pictures.answers_layers_figure):
            figure: Any = draw(document)
            figure.draw_without_rendering()
            title = figure._suptitle.get_window_extent()
            assert (
                title.x0 >= 0 and title.x1 <= figure.bbox.width and title.y1 <= figure.bbox.height
            )

    def test_models_are_called_by_short_names(self) -> None:
        assert short_name("/a/b/model-7B") == short_name("org/model-7B") == "model-7B"
        assert short_name("/cache/models--org--model-7B/snapshots/0f3a") == "model-7B"
        assert short_name("polyrefuse-organism") == "polyrefuse-organism"
        long = short_name("org/" + "x" * 50 + "y" * 50)
        assert len(long) == 40 and long.startswith("xxx") and long.endswith("yyy")
