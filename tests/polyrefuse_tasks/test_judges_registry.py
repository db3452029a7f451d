"""Judges that another package brings: found by name, through every command, and held to the
contract. The package is installed for real, in a folder that subprocesses find."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks.judges import JUDGES, Judge, Label, judge_named, names
from tests.conftest import ROOT
from tests.polyrefuse_tasks import other_package
from tests.waiting import PATIENCE

GOOD = {"other-refusal": ":REFUSAL", "other-harm": ":HARM", "other-both": ":BOTH"}
BROKEN = {
    "raises": ":RAISES",
    "few": ":FEW",
    "nothing": ":NOTHING",
    "strings": ":STRINGS",
    "word": ":WORD",
    "plain": ":PLAIN",
    "nan": ":NAN",
    "no-label": ":NO_LABEL",
    "verdict": ":VERDICT",
    "labels-harm": ":LABELS_HARM",
    "contradicts": ":CONTRADICTS",
    "no-object": ":ABSENT",
    "no-module": ".absent:JUDGE",
    "bad-module": ".broken:JUDGE",
    "a-class": ":Refusal",
    "a-module": "",
    "a-number": ":os.sep",
    "renamed": ":RENAMED",
    "taste": ":TASTE",
    "silent": ":SILENT",
    "native": ":NATIVE",
}
TASKS = ["toyrefuse_harmful_en", "toyrefuse_harmless_en", "toyrefuse_harmful_de"]
LIMIT = 6


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    other_package.install(folder, GOOD)
    return folder


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    other_package.install(folder, BROKEN | GOOD, "broken-judges")
    return folder


def python(code: str, *folders: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=other_package.environment(ROOT, *folders, **variables),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_ours_are_in_the_same_registry() -> None:
    assert JUDGES[0] == "native"  # the default
    assert {"native", "substring"} <= set(JUDGES) <= set(names())
    for name in JUDGES:
        judge: Judge = judge_named(name)
        assert judge.name == name
    assert judge_named("native").measures == judge_named("substring").measures == "refusal"
    assert not judge_named("native").english_only
    assert judge_named("substring").english_only


def test_nothing_is_imported_before_a_judge_is_asked_for(broken: Path) -> None:
    python(
        "import sys\n"
        "from polyrefuse_tasks.judges import judge_named, judge_response, names\n"
        "assert {'other-harm', 'bad-module', 'substring'} < set(names())\n"
        "assert str(judge_response('I cannot help with that.', 'en', judge='substring').label)\n"
        "assert 'broken_judges' not in sys.modules\n"
        "assert judge_named('other-harm').measures == 'harm'\n"
        "assert 'broken_judges' in sys.modules\n"
        "assert 'broken_judges.broken' not in sys.modules\n",
        broken,
    )


def test_a_batch_is_one_call_and_holds_no_response_that_is_no_answer(
    good: Path, tmp_path: Path
) -> None:
    """Degenerate and unfinished responses, and those without a translation, reach no judge."""
    log = tmp_path / "log"
    looping = "I cannot help with that. " * 40
    responses = ["no", "", "yes", "<think>Hm", "la " * 300, looping]
    code = f"""
import json
from polyrefuse_tasks.judges import judge_responses
responses, languages = {responses!r}, ["en"] * 5 + ["de"]
prompts = ["four", "four", "five five ", "four", "four", "four"]
said = {{}}
for judge in ("other-refusal", "other-harm", "other-both"):
    judgements = judge_responses(
        responses, languages, prompts, judge=judge,
        responses_translated=[None] * 5 + ["no way"], prompts_translated=[None] * 5 + ["a way"],
    )
    said[judge] = [(one.label and one.label.value, one.harmful) for one in judgements]
    said[judge].append(judge_responses(["", "la " * 300], ["en"] * 2, judge=judge)[0].evidence)
print(json.dumps(said))
"""
    said = json.loads(python(code, good, JUDGE_LOG=str(log)))
    empty, unfinished = ["degenerate", None], ["undecided", None]
    assert said["other-refusal"] == [
        ["refusal", None], empty, ["compliance", None], unfinished, empty, ["refusal", None],
        "empty",
    ]  # fmt: skip
    # A refusal in circles is for a judge of harm to read.
    assert said["other-harm"] == [
        [None, True], empty, ["undecided", None], unfinished, empty, [None, True], "empty",
    ]  # fmt: skip
    # Handed the English answer and prompt.
    assert said["other-both"] == [
        ["refusal", True], empty, ["compliance", None], unfinished, empty, ["refusal", None],
        "empty",
    ]  # fmt: skip
    assert log.read_text().splitlines() == [
        "other-refusal 2 2 2", "other-harm 3 3 3", "other-both 3 3 3",
    ]  # fmt: skip


def test_what_is_broken_is_one_sentence_that_names_the_package(broken: Path) -> None:
    code = f"""
import json
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judges import judge_response
said = {{}}
for name in {list(BROKEN)!r}:
    try:
        said[name] = repr(judge_response("An answer.", "en", judge=name))
    except UserError as error:
        said[name] = str(error)
print(json.dumps(said))
"""
    said = json.loads(python(code, broken))
    expected = {
        "raises": "failed (RuntimeError: out of memory)",
        "few": "returned 0 judgements for 1 answers",
        "nothing": "returned a NoneType, not a list of judgements",
        "strings": "returned a str in the place of a Judgement",
        "word": "returned a str as a label",
        "plain": "returned a bytes as evidence",
        "nan": "returned a float as harmful",
        "no-label": "returned no label, but measures refusal",
        "verdict": "returned harmful=True, but measures only refusal",
        "labels-harm": "returned the label compliance, but measures only harm",
        "contradicts": "returned label=undecided with harmful=True",
        "no-object": "cannot be loaded from broken_judges:ABSENT (AttributeError",
        "no-module": "cannot be loaded from broken_judges.absent:JUDGE (ModuleNotFoundError",
        "bad-module": "cannot be loaded from broken_judges.broken:JUDGE (OSError: no weights)",
        "a-class": "broken_judges:Refusal is a class",
        "a-module": "has no method `judge`",
        "a-number": "has no method `judge`",
        "renamed": "has the name 'another-name', not 'renamed'",
        "taste": "measures 'taste', not one of refusal, harm, both",
        "silent": "does not say by `english_only`",
        "native": "More than one package has a judge 'native': lm-eval-polyrefuse and ",
    }
    assert said.keys() == expected.keys()
    for name, sentence in said.items():
        assert expected[name] in sentence
        assert "broken-judges" in sentence and repr(name) in sentence
        assert "\n" not in sentence


def test_a_name_taken_by_two_packages(good: Path, broken: Path) -> None:
    """Only who asks for it is stopped."""
    code = """
from polyrefuse_tasks.judges import BadJudge, check_judge
assert check_judge("substring") == "substring"
try:
    check_judge("other-harm")
except BadJudge as error:
    print(error)
"""
    said = python(code, good, broken)
    assert "More than one package has a judge 'other-harm'" in said
    assert "invented-judges" in said and "broken-judges" in said


def test_an_unknown_name_lists_those_of_others(good: Path) -> None:
    code = """
from polyrefuse_tasks.judges import UnknownJudge, check_judge
try:
    check_judge("gavel")
except UnknownJudge as error:
    print(error)
"""
    said = python(code, good)
    assert said.startswith("There is no judge 'gavel': use one of native, substring, ")
    assert said.endswith(", other-both, other-harm, other-refusal.\n")


def test_labels_are_asked_of_judges_of_refusal_alone(good: Path) -> None:
    code = """
from polyrefuse_tasks.judges import BadJudge, label_responses
for judge in ("other-refusal", "other-both"):
    print(*label_responses(["no", "yes", ""], ["en"] * 3, ["odd"] * 3, judge=judge))
try:
    label_responses(["no"], ["en"], judge="other-harm")
except BadJudge as error:
    print(error)
"""
    assert python(code, good).splitlines() == [
        "refusal compliance degenerate",
        "refusal compliance degenerate",
        "The judge 'other-harm' of package invented-judges measures only harm: name one that "
        "measures refusal here.",
    ]


class TestAgreement:
    """`polyrefuse judge agreement --judge NAME`."""

    def run(self, folder: Path, *arguments: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "polyrefuse", "judge", "agreement", *map(str, arguments)],
            env=other_package.environment(ROOT, folder),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout, done.stderr

    def test_refusal_harm_and_both(self, good: Path, tmp_path: Path) -> None:
        row = {"language": "en", "refusal": True, "harmful": True}
        rows = [
            row | {"response": "no", "prompt": "four"},
            row | {"response": "yes", "prompt": "odd"},
            row | {"response": "yes", "prompt": "five."},
            row | {"response": "yes", "prompt": "four", "refusal": False},
            row | {"response": "", "prompt": "four", "harmful": False},
        ]
        path = tmp_path / "labels.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        pooled = {}
        for judge in GOOD:
            code, out, err = self.run(good, path, "--judge", judge, "--json")
            assert (code, err) == (0, "")
            pooled[judge] = json.loads(out)["pooled"]
        assert pooled["other-refusal"] == pooled["other-both"]
        refusal, harm = pooled["other-refusal"], pooled["other-harm"]
        # By hand: one of four labelled refusals is called so, and nothing else.
        assert (refusal["agreement"], refusal["base_rate"], refusal["recall"]) == (0.4, 0.8, 0.25)
        assert (refusal["precision"], refusal["undecided"], refusal["degenerate"]) == (1, 0, 1)
        # Two of four labelled harmful are called so; one is odd, one undecided, one empty.
        assert (harm["agreement"], harm["base_rate"], harm["recall"]) == (0.6, 0.8, 0.5)
        assert (harm["precision"], harm["undecided"], harm["degenerate"]) == (1, 1, 1)

    def test_a_row_that_does_not_say_what_the_judge_measures(
        self, good: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "labels.jsonl"
        path.write_text('{"language": "en", "response": "no", "refusal": true}\n')
        code, out, err = self.run(good, path, "--judge", "other-harm")
        assert (code, out) == (2, "")
        assert err == f"polyrefuse: {path}, line 1 has no harmful; correct or remove it.\n"

    def test_a_judge_that_fails(self, broken: Path, tmp_path: Path) -> None:
        path = tmp_path / "labels.jsonl"
        path.write_text('{"language": "en", "response": "no", "refusal": true}\n')
        for judge in ("raises", "few", "bad-module"):
            code, out, err = self.run(broken, path, "--judge", judge)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert err.startswith(f"polyrefuse: The judge '{judge}' of package broken-judges ")


class Ran:
    """What one `lm_eval` command wrote, and what the leaderboard makes of it."""

    def __init__(self, folder: Path, packages: Path, judge: str) -> None:
        self.folder, self.packages = folder, packages
        done = subprocess.run(
            [
                *(sys.executable, "-m", "lm_eval", "run", "--model", "dummy"),
                *("--model_args", "pretrained=invented/echo", "--limit", str(LIMIT)),
                *("--tasks", ",".join([*TASKS, "mcd_harmless", "mcd_malicious_instruct_en"])),
                *("--metadata", json.dumps({"judge": judge})),
                *("--output_path", str(folder), "--log_samples"),
            ],
            cwd=folder,
            env=other_package.environment(packages, JUDGE_LOG=str(folder / "log")),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        self.stdout = done.stdout
        (file,) = folder.glob("**/results_*.json")
        self.results = json.loads(file.read_text())["results"]
        self.docs: dict[str, list[dict[str, Any]]] = {
            path.name.split("_2")[0].removeprefix("samples_"): [
                json.loads(line)["doc"] for line in path.read_text().splitlines()
            ]
            for path in folder.glob("**/samples_*.jsonl")
        }
        self.file = file

    def rates(self, task: str) -> dict[str, float]:
        found = self.results[task].items()
        return {key[: -len(",none")]: value for key, value in found if key.endswith(",none")}

    def records(self) -> list[dict[str, Any]]:
        code = (
            "import sys, polyrefuse\n"
            f"sys.argv = ['polyrefuse', 'leaderboard', 'build', {str(self.folder)!r}, '--output', "
            f"{str(self.folder / 'board')!r}]\n"
            "polyrefuse.main()\n"
        )
        python(code, self.packages)
        return json.loads((self.folder / "board" / "leaderboard.json").read_text())["records"]


def length_verdict(prompt: str) -> bool | None:
    """What the invented judges say of an answer to a prompt, written once more."""
    if len(prompt) in range(0, 10**4, 5):
        return None
    return len(prompt) in range(0, 10**4, 2)


@pytest.fixture(scope="module")
def harm(good: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYREFUSE_DATA_DIR", str(shared / "data"))
        return Ran(tmp_path_factory.mktemp("harm"), good, "other-harm")


@pytest.fixture(scope="module")
def both(good: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYREFUSE_DATA_DIR", str(shared / "data"))
        return Ran(tmp_path_factory.mktemp("both"), good, "other-both")


class TestHarmInLmEval:
    """A judge of harm alone: its rate, and none that it does not measure."""

    def test_the_rates(self, harm: Ran) -> None:
        for task in ("toyrefuse_harmful_en", "toyrefuse_harmful_de", "mcd_malicious_instruct_en"):
            verdicts = [length_verdict(doc["prompt"]) for doc in harm.docs[task]]
            shares = {verdict: count / LIMIT for verdict, count in Counter(verdicts).items()}
            rates = harm.rates(task)
            any_of_sampled = {"asr_harmful_any"} if task.startswith("mcd_") else set()
            assert {name for name in rates if "stderr" not in name} == any_of_sampled | {
                "asr_harmful", "degenerate_rate", "undecided_rate", "off_language_rate",
            }  # fmt: skip
            assert rates["asr_harmful"] == pytest.approx(shares.get(True, 0))
            assert rates["undecided_rate"] == pytest.approx(shares.get(None, 0))
        for task in ("toyrefuse_harmless_en", "mcd_harmless"):
            assert {name for name in harm.rates(task) if "stderr" not in name} == {
                "degenerate_rate", "undecided_rate", "off_language_rate",
            }  # fmt: skip
        # lm-eval prints the rates that there are.
        assert "asr_harmful" in harm.stdout and "refusal" not in harm.stdout.replace(
            "toyrefuse", ""
        ).replace("polyrefuse", "")

    def test_the_samples(self, harm: Ran) -> None:
        for doc in harm.docs["toyrefuse_harmful_de"]:
            verdict = length_verdict(doc["prompt"])
            assert doc["response_harmful"] is verdict
            assert doc["label"] == ("undecided" if verdict is None else None)
            assert doc["evidence"] == "by length"
        for doc in harm.docs["mcd_malicious_instruct_en"]:
            assert {one["response_harmful"] for one in doc["kept"]} == {
                length_verdict(doc["prompt"])
            }

    def test_sampled_answers_are_one_batch(self, harm: Ran) -> None:
        sizes = Counter(line.split()[1] for line in (harm.folder / "log").read_text().splitlines())
        assert sizes == {"1": 3 * LIMIT, "20": 2 * LIMIT}

    def test_the_leaderboard(self, harm: Ran) -> None:
        records = harm.records()
        assert {record["judge"] for record in records} == {"other-harm"}
        metrics = {record["metric"] for record in records}
        assert metrics == {
            *("asr_harmful", "asr_harmful_any"),
            *("degenerate_rate", "undecided_rate", "off_language_rate"),
        }
        for task in ("toyrefuse_harmful_en", "toyrefuse_harmful_de"):
            (value,) = (
                record["value"]
                for record in records
                if record["metric"] == "asr_harmful"
                and (record["dataset"], record["language"]) == tuple(task.rsplit("_", 1))
            )
            assert value == harm.rates(task)["asr_harmful"]
        assert {r["dataset"] for r in records if r["metric"] == "undecided_rate"} == {
            "toyrefuse_harmful", "toyrefuse_harmless", "malicious_instruct", "mcd_harmless",
        }  # fmt: skip
        table = (harm.folder / "board" / "leaderboard.md").read_text()
        assert "Harmful answers" in table

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"response_harmful": "yes"}, "response_harmful is 'yes', not true, false"),
            ({"response_harmful": 1.0}, "response_harmful is 1.0, not true, false"),
            ({"label": "compliance"}, "label is 'compliance', not one of null, degenerate"),
            ({"label": None, "response_harmful": None}, "response_harmful is None, not true"),
        ],
    )
    def test_samples_that_contradict_the_results(
        self, harm: Ran, tmp_path: Path, change: dict[str, Any], said: str
    ) -> None:
        from polyrefuse_leaderboard.reading.results import read

        reading = read([self.changed(harm, tmp_path, change)])
        (problem,) = reading.problems
        assert said in problem and "\n" not in problem

    def test_a_verdict_turned_round_is_noticed(self, harm: Ran, tmp_path: Path) -> None:
        from polyrefuse_leaderboard.reading.results import read

        doc = harm.docs["toyrefuse_harmful_de"][0]
        turned = {"label": None, "response_harmful": not doc["response_harmful"]}
        reading = read([self.changed(harm, tmp_path, turned)])
        (problem,) = reading.problems
        assert "asr_harmful is" in problem or "undecided_rate is" in problem

    def changed(self, harm: Ran, folder: Path, change: dict[str, Any]) -> Path:
        """A copy of the results, with something else said of the first German prompt's answer."""
        for path in harm.file.parent.iterdir():
            text = path.read_text()
            if path.name.startswith("samples_toyrefuse_harmful_de"):
                first, *others = text.splitlines()
                sample = json.loads(first)
                sample["doc"] |= change
                text = "\n".join([json.dumps(sample), *others])
            (folder / path.name).write_text(text)
        return folder


class TestBothInLmEval:
    def test_the_rates(self, both: Ran) -> None:
        docs = both.docs["toyrefuse_harmful_en"]
        rates = both.rates("toyrefuse_harmful_en")
        # The dummy model says "lol" to everything, which holds no "no".
        assert (rates["asr"], rates["refusal_rate"]) == (1, 0)
        verdicts = [length_verdict(doc["prompt_en"]) for doc in docs]
        assert rates["asr_harmful"] == pytest.approx(verdicts.count(True) / LIMIT)
        # What it could not decide of harm is counted, beside what it decided of refusal.
        assert rates["undecided_rate"] == pytest.approx(verdicts.count(None) / LIMIT)
        german = both.rates("toyrefuse_harmful_de")
        assert (german["undecided_rate"], german["asr"], german["asr_harmful"]) == (1, 0, 0)
        assert {doc["evidence"] for doc in both.docs["toyrefuse_harmful_de"]} == {
            "no English translation"
        }
        sampled = both.rates("mcd_malicious_instruct_en")
        assert (sampled["asr_any"], sampled["asr_mean"]) == (1, 1)
        assert 0 <= sampled["asr_harmful"] <= 1

    def test_the_leaderboard(self, both: Ran) -> None:
        english = {
            record["metric"]: record["value"]
            for record in both.records()
            if (record["dataset"], record["language"]) == ("toyrefuse_harmful", "en")
        }
        printed = both.rates("toyrefuse_harmful_en")
        assert english == {name: value for name, value in printed.items() if "stderr" not in name}

    def test_the_gate_is_held_to_harm_prompt_by_prompt(self, both: Ran) -> None:
        from polyrefuse_leaderboard.gate.baseline import make_baseline
        from polyrefuse_leaderboard.reading.results import read

        scores = make_baseline(read([both.folder]).runs).cells
        held = {(score.dataset, score.language, score.metric) for score in scores}
        assert held == {
            ("toyrefuse_harmful", "en", "asr"), ("toyrefuse_harmful", "en", "asr_harmful"),
            ("toyrefuse_harmful", "de", "asr"), ("toyrefuse_harmful", "de", "asr_harmful"),
            ("toyrefuse_harmless", "en", "false_refusal_rate"),
            ("malicious_instruct", "en", "asr_any"), ("mcd_harmless", "en", "frr_any"),
            ("malicious_instruct", "en", "asr_harmful_any"),
        }  # fmt: skip
        (english,) = (
            score for score in scores if (score.language, score.metric) == ("en", "asr_harmful")
        )
        docs = both.docs["toyrefuse_harmful_en"]
        assert english.labels == {
            doc["id"]: int(length_verdict(doc["prompt_en"]) is True) for doc in docs
        }


def test_a_judge_that_cannot_be_used_stops_lm_eval_before_any_answer(
    broken: Path, tmp_path: Path
) -> None:
    code = """
import sys
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.harness import load_prompts, score_answer
for name in ("bad-module", "taste", "native"):
    try:
        load_prompts(family="toyrefuse_harmful", lang="en", judge=name)
    except UserError as error:
        print(error)
(doc, *_) = load_prompts(family="toyrefuse_harmful", lang="en", judge="raises")["test"]
try:
    score_answer(doc, ["An answer."])
except UserError as error:
    print(error)
"""
    lines = python(code, broken).splitlines()
    assert len(lines) == 4 and all("broken-judges" in line for line in lines)


def test_no_module_of_the_judges_loads_a_model_s_engine() -> None:
    code = """
import importlib, pkgutil, sys
import polyrefuse_tasks.judges, polyrefuse_tasks.metrics
for module in pkgutil.iter_modules(polyrefuse_tasks.judges.__path__):
    # It is a metric of Hugging Face's evaluate, which imports torch itself.
    if module.name != "evaluate_module":
        importlib.import_module("polyrefuse_tasks.judges." + module.name)
print(sorted({"torch", "vllm", "transformers", "lm_eval", "polyrefuse_tasks.judge_engines"}
             & sys.modules.keys()))
"""
    assert python(code) == "[]\n"


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    section = (ROOT / "docs/how-to/own-judge.md").read_text(encoding="utf-8")
    code = section.split("```python\n")[1].split("```")[0]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/length.py").write_text(code, encoding="utf-8")
    metadata = tmp_path / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (entry,) = (line for line in section.splitlines() if line.startswith("length = "))
    (metadata / "entry_points.txt").write_text(
        "[polyrefuse.judges]\n" + entry.replace('"', "") + "\n"
    )
    said = python(
        "from polyrefuse_tasks.judges import judge_responses\n"
        "answers = ['Boil the water.', 'Boil it and pour it over the leaves, then wait a while.']\n"
        "languages = ['en', 'en']\n"
        "for one in judge_responses(answers + ['ต้มน้ำ'], languages + ['th'], judge='length'):\n"
        "    print(one.label and one.label.value, one.harmful, one.evidence)\n",
        tmp_path,
    )
    assert said.splitlines() == [
        "None False 3 words", "None True 12 words", "undecided None no words to count",
    ]  # fmt: skip


def test_labels_have_the_values_that_are_logged() -> None:
    assert {label.value for label in Label} == {"refusal", "compliance", "degenerate", "undecided"}
