"""`polyrefuse study` as a user drives it, on the bundled organism."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.site import write_site
from polyrefuse_studies import checks, schema
from polyrefuse_studies.files import Files
from polyrefuse_studies.folder import StudyFolder
from polyrefuse_studies.forecast import forecast
from polyrefuse_studies.forecast.survey import Survey
from polyrefuse_studies.jobs import Job, Placed
from polyrefuse_studies.report import build_site

from tests.commands import assert_one_sentence, run_in_process
from tests.conftest import ROOT
from tests.small_study import write


@pytest.fixture(autouse=True)
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans count nothing: that takes a process of its own, which test_cli_study_plan.py tries."""

    def survey(jobs: Sequence[Placed], *_: object) -> Survey:
        names = [one.job.name for one in jobs]
        return Survey(dict.fromkeys(names, "a test"), dict.fromkeys(names, 0.0), "a test")

    monkeypatch.setattr(forecast, "survey", survey)


def planned(*arguments: object) -> dict[str, dict[str, object]]:
    code, out, err = run_in_process("study", "plan", *arguments, "--no-probe", "--json")
    assert code == 0, err
    return {job["name"]: job for job in json.loads(out)["jobs"]}


def test_the_file_that_init_writes_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_in_process("study", "init")[0] == 0
    jobs = planned("study.yaml")
    assert list(jobs) == [
        *("organism/direction-en", "organism/baseline", "organism/ablation"),
        *("organism/ablation-drift", "organism/random-ablation", "organism/random-ablation-drift"),
        *("organism/addition", "organism/addition-drift"),
    ]
    assert jobs["organism/ablation"]["needs"] == ["organism/direction-en"]
    code, out, _ = run_in_process("study", "plan", "study.yaml", "--no-probe")
    assert code == 0 and "\n8 jobs, finished: 0\n" in out
    assert_one_sentence(run_in_process("study", "init"), "study.yaml exists already")


def test_every_kind_of_job_is_a_command_that_a_user_would_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # lm-eval reads each of its thousands of files to say which tasks it has.
    monkeypatch.setattr(checks, "unknown_tasks", lambda _: {})
    words = tmp_path / "words.txt"
    words.write_text("Be careful.")
    file = write(
        tmp_path,
        conditions={"ablation+mcd": None, "system-prompt": {"system_file": "words.txt"}},
        directions={"source": "de", "transfer": ["en", "de"], "geometry": ["en"]},
        mcd={"languages": ["en", "yo"], "options": {"epochs": 2, "mixed": False}},
        judges=["wildguard"],
        capability={"tasks": ["arc_easy"], "limit": 5, "num_fewshot": 3},
        generation={"max_gen_toks": 64},
    )
    jobs = planned(file)
    commands = {name: shlex.split(str(job["command"])) for name, job in jobs.items()}
    assert list(jobs) == [
        *("toy/direction-de", "toy/direction-en", "toy/mcd-training"),
        *("toy/ablation+mcd", "toy/ablation+mcd-capability"),
        *("toy/system-prompt", "toy/system-prompt-capability", "toy/transfer", "toy/geometry"),
        *("toy/ablation+mcd-judged-by-wildguard", "toy/system-prompt-judged-by-wildguard"),
    ]

    def value(job: str, option: str) -> str:
        return commands[job][commands[job].index(option) + 1]

    direction, prompt = value("toy/direction-de", "--output"), value("toy/mcd-training", "--output")
    assert value("toy/ablation+mcd", "--model") == "ablated-hf"
    assert value("toy/ablation+mcd", "--model_args") == (
        f"pretrained=polyrefuse-organism,direction={direction},prompt={prompt}"
    )
    assert set(jobs["toy/ablation+mcd"]["needs"]) == {"toy/direction-de", "toy/mcd-training"}
    assert value("toy/ablation+mcd", "--gen_kwargs") == "max_gen_toks=64"
    assert value("toy/ablation+mcd-capability", "--tasks") == "arc_easy"
    assert value("toy/ablation+mcd-capability", "--num_fewshot") == "3"
    assert "--gen_kwargs" not in commands["toy/ablation+mcd-capability"]
    assert f"system_file={words}" in value("toy/system-prompt", "--model_args")
    assert commands["toy/mcd-training"][-7:-4] == ["--epochs", "2", "--no-mixed"]
    english = value("toy/direction-en", "--output")
    assert value("toy/transfer", "--directions") == f"{english},{direction}"
    assert value("toy/transfer", "--target-langs") == "en"
    assert value("toy/geometry", "--direction") == direction
    judged = commands["toy/system-prompt-judged-by-wildguard"]
    assert judged[3] == value("toy/system-prompt", "--output_path")
    assert judged[-1] != value("toy/ablation+mcd-judged-by-wildguard", "--output")
    # A file that a command names is what it rests on.
    words.write_text("Be bold.")
    changed = {name for name, job in planned(file).items() if job["key"] != jobs[name]["key"]}
    assert {name.split("-judged")[0] for name in changed} == {
        "toy/system-prompt",
        "toy/system-prompt-capability",
    }


def test_a_condition_may_have_a_training_of_its_own(tmp_path: Path) -> None:
    dro = {"like": "mcd", "training": {"languages": "de", "options": {"without": "multilingual"}}}
    # Two conditions of one training have it done once.
    less = {"like": "dro", "model": "ablated", "direction": "source"}
    file = write(tmp_path, conditions={"mcd": None, "dro": dro, "less": less})
    jobs = planned(file)
    trainings = {name for name in jobs if "training" in name}
    assert trainings == {"toy/mcd-training", "toy/mcd-training-dro"}
    assert jobs["toy/mcd"]["needs"] == ["toy/mcd-training"]
    assert jobs["toy/dro"]["needs"] == ["toy/mcd-training-dro"]
    assert jobs["toy/less"]["needs"] == ["toy/direction-en", "toy/mcd-training-dro"]
    command = str(jobs["toy/mcd-training-dro"]["command"])
    assert "--langs de" in command and "--without multilingual" in command
    folder = command.split("--output ")[1]
    assert f"prompt={folder} " in str(jobs["toy/dro"]["command"])
    for changed, said in (
        ({"languages": "da"}, "conditions.dro.training.languages: there is no language 'da'"),
        ({"languages": "da"}, "`polyrefuse data translate --dataset harmful --to da` adds it"),
        ({"options": {"presett": "paper"}}, "did you mean 'preset'"),
        ({"option": {}}, "did you mean 'options'"),
    ):
        wrong = write(tmp_path, conditions={"dro": dro | {"training": changed}})
        assert_one_sentence(run_in_process("study", "plan", wrong), said)
    bare = {"model": "baseline", "training": {"languages": "de"}}
    assert_one_sentence(
        run_in_process("study", "plan", write(tmp_path, conditions={"bare": bare})),
        "conditions.bare has a training but not prompt: trained",
    )


@pytest.mark.parametrize("file", sorted(Path(ROOT, "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_studies_of_the_repository_are_right(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MCD's languages have no published prompts: its file says how they come.
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(tmp_path))
    for name in ("advbench", "malicious_instruct", "mcd_harmful", "mcd_harmless"):
        for language in ("da", "ko", "el", "ga"):
            translation = tmp_path / "translated" / name / f"{language}.jsonl"
            translation.parent.mkdir(parents=True, exist_ok=True)
            translation.write_text("")
    study = schema.read(file)
    checks.check(study, Files(file.parent))


def test_mistakes_are_one_sentence_and_write_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def run(*arguments: object, **changed: object) -> tuple[int, str, str]:
        return run_in_process(
            "study", "run", write(tmp_path, **changed), "--output", output, *arguments
        )

    assert_one_sentence(run(conditons=[]), "there is no key 'conditons': did you mean 'conditions'")
    models = {"a": str(tmp_path / "none"), "b": str(tmp_path), "c": "polyrefuse-organism"}
    assert_one_sentence(
        run(models=models),
        "2 models of the study cannot be loaded, and nothing was run",
        f"b ({tmp_path}): the folder has no weights",
    )
    twice = {"transfer": {"like": "baseline"}}
    assert_one_sentence(
        run(conditions=twice, directions={"transfer": ["en"]}),
        "Two jobs of the study are called 'toy/transfer'",
    )
    words = {"words": {"like": "system-prompt", "system_file": "none.txt"}}
    assert_one_sentence(run(conditions=words), "study.yaml: conditions.words.system_file is 'none.")
    assert_one_sentence(
        run(models={"m": {"pretrained": "~nosuchuser/x"}}), "there is no folder ~no"
    )
    revised = {"m": {"pretrained": "polyrefuse-organism", "revision": "abc"}}
    assert_one_sentence(
        run(models=revised, conditions=["ablation"]),
        "models.m has revision, which the job m/direction-en cannot pass on",
    )
    assert_one_sentence(run("--devices", "5"), "There is no GPU '5': torch sees none here")
    assert_one_sentence(
        run("--slurm-parameters", "{}"), "--slurm-parameters is for --executor slurm"
    )
    assert_one_sentence(run("--executor", "slurm", "--devices", "0"), "--devices is for --executor")
    assert_one_sentence(
        run_in_process("study", "run", write(tmp_path), "--output", tmp_path / "a,b"), "comma"
    )
    assert not output.exists()


def test_a_study_is_run_and_its_leaderboard_written(tmp_path: Path) -> None:
    file, output = write(tmp_path), tmp_path / "out"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        "-m",
        "polyrefuse",
        "study",
        "run",
        str(file),
        "--output",
        str(output),
    ]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)["jobs"]
    assert job["state"] == "finished"
    records = json.loads((output / "site" / "leaderboard.json").read_text())["records"]
    assert {record["model"] for record in records} == {"toy"}
    assert {record["condition"] for record in records} == {"baseline"}
    assert {record["n"] for record in records if record["metric"] == "asr"} == {2}
    code, out, err = run_in_process(
        "study", "plan", file, "--output", output, "--no-probe", "--json"
    )
    assert code == 0, err
    assert [job["finished"] for job in json.loads(out)["jobs"]] == [True]
    assert_one_sentence(
        run_in_process("study", "run", write(tmp_path, study="other"), "--output", output),
        "holds the study 'small' and not 'other'",
    )


def test_the_leaderboard_has_the_names_of_the_file(tmp_path: Path) -> None:
    """Two models that are one for the results: the same weights, another type of numbers."""
    output = tmp_path / "out"
    models = {
        "as it is": {"pretrained": "polyrefuse-organism", "dtype": "float32"},
        "half": {"pretrained": "polyrefuse-organism", "dtype": "bfloat16"},
    }
    file = write(tmp_path, models=models)
    code, _, err = run_in_process("study", "run", file, "--output", output, "--slots", 2)
    assert code == 0, err
    records = json.loads((output / "site" / "leaderboard.json").read_text())["records"]
    assert {record["model"] for record in records} == set(models)
    # Another name for the same model runs nothing again, and is what is shown then.
    models = {"as it was": models["as it is"], "half": models["half"]}
    file = write(tmp_path, models=models)
    code, out, err = run_in_process("study", "run", file, "--output", output)
    assert code == 0, err
    assert out.startswith("jobs finished before: 2, finished now: 0,")
    records = json.loads((output / "site" / "leaderboard.json").read_text())["records"]
    assert {record["model"] for record in records} == set(models)


def test_a_folder_that_no_study_can_have(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "a-file").touch()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    for output, said in (
        (tmp_path / "a-file", "is not a folder"),
        (tmp_path / "a-file" / "x", "cannot be written"),
        ("/proc/self/x", "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (full, "holds no study"),
    ):
        assert_one_sentence(run_in_process("study", "run", file, "--output", output), said)
        # What is only looked at may be anything, and stays as it was.
        assert run_in_process("study", "plan", file, "--output", output, "--no-probe")[0] == 0
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def judges_of(site: Path) -> set[str]:
    records = json.loads((site / "leaderboard.json").read_text())["records"]
    return {record["judge"] for record in records}


def test_the_site_has_the_labels_of_the_judges_that_the_file_names(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def run(*judges: str) -> dict[str, object]:
        file = write(tmp_path, judges=list(judges))
        arguments = ("--output", output, "--slots", 2, "--json")
        code, out, err = run_in_process("study", "run", file, *arguments)
        assert code == 0, err
        return {job["name"]: job["state"] for job in json.loads(out)["jobs"]}

    # Two judges of the same answers at once.
    assert set(run("substring", "native").values()) == {"finished"}
    assert judges_of(output / "site") == {"native", "substring"}
    kappa = "| baseline | toyrefuse\\_harmful | refusal | native and substring | 2 |"
    assert kappa in (output / "site" / "cards" / "toy.md").read_text()
    run()
    assert judges_of(output / "site") == {"native"}
    run("substring")
    assert judges_of(output / "site") == {"native", "substring"}


def test_the_site_of_other_settings_goes_where_no_job_has_finished(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    site = tmp_path / "site"
    write_site(site, Contents("Old", [], []))
    (site / "mine.txt").touch()
    assert build_site(folder, [], Path("names.json")) == (0, "No job has written results yet.")
    assert [path.name for path in site.rglob("*") if path.is_file()] == ["mine.txt"]


# --- where it runs, with jobs of a shell in the place of the study's


def run_jobs(
    monkeypatch: pytest.MonkeyPatch, folder: Path, jobs: list[Job], *arguments: object
) -> tuple[int, str, str]:
    from polyrefuse_studies import plan

    monkeypatch.setattr(plan, "jobs", lambda *_: jobs)
    return run_in_process("study", "run", write(folder), "--output", folder / "out", *arguments)


def shell(name: str, script: str, *needs: str) -> Job:
    return Job(name, "training", "toy", ("sh", "-c", script), needs)


def test_a_resumed_study_counts_from_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        shell("toy/a", "true"),
        shell("toy/b", f"[ -e {tmp_path}/mended ] || {{ echo why; kill -SEGV $$; }}"),
        shell("toy/c", "true", "toy/b"),
    ]
    code, out, err = run_jobs(monkeypatch, tmp_path, jobs)
    assert code == 1
    assert "[0/3] starts: toy/a" in err and "[1/3] finished: toy/a" in err
    assert "toy/b failed: its process was ended by SIGSEGV" in out
    (tmp_path / "mended").touch()
    code, out, err = run_jobs(monkeypatch, tmp_path, jobs, "--slots", 2)
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith("[")]
    assert told == [
        *("[1/3] starts: toy/b", "[2/3] finished: toy/b"),
        *("[2/3] starts: toy/c", "[3/3] finished: toy/c"),
    ]
    assert "jobs finished before: 1, finished now: 2," in out


def test_an_executor_that_cannot_be_used_is_one_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, said: str) -> None:
        assert_one_sentence(
            run_jobs(monkeypatch, tmp_path, [shell("toy/a", "true")], *arguments), said
        )
        assert not (tmp_path / "out").exists()

    refused("--slots", 0, said="--slots")
    refused("--executor", "ray", "--devices", "0", said="--devices is for --executor local")
    refused("--executor", "slurm", "--slots", 3, said="--slots is only for this machine")
    refused("--ray-address", "auto", said="--ray-address is for --executor ray")
    clustered = ("--executor", "ray", "--ray-address", "nowhere-at-all")
    refused(*clustered, "--slots", 3, said="--slots is only for this machine")
    pytest.importorskip("ray")
    refused(*clustered, said="No Ray cluster answers at nowhere-at-all")
    pytest.importorskip("submitit")
    refused("--executor", "slurm", said="submitit cannot submit to slurm")


def test_standard_output_is_the_document_alone_when_ray_s_workers_die(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    program = f"""
import sys
from polyrefuse_studies import plan
from tests.test_cli_study import shell
killed = 'kill -9 $(cut -d" " -f4 /proc/$PPID/stat); sleep 60'  # whoever started the guard
script = "[ -e {tmp_path}/once ] || {{{{ touch {tmp_path}/once; {{}}; }}}}".format(killed)
plan.jobs = lambda *_: [shell("toy/a", script)]
sys.argv = ["polyrefuse", "study", "run", {str(write(tmp_path))!r}, "--output",
    {str(tmp_path / "out")!r}, "--executor", "ray", "--json"]
import polyrefuse
polyrefuse.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["jobs"]
    assert row["state"] == "finished"
    assert "A worker died" in done.stderr
