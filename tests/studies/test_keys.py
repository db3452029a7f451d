"""A job's key is a checksum of everything that it depends on, and of nothing else."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyrefuse_studies import plan, schema
from polyrefuse_studies.files import Files, MissingFile
from polyrefuse_studies.jobs import OWN, Job, Placed, folder_of, place
from polyrefuse_studies.models import CannotLoad, Identities

from polyrefuse_models import bundled
from polyrefuse_shared.errors import UserError

STUDY: dict[str, Any] = {
    "study": "small",
    "models": {"m": "polyrefuse-organism"},
    "datasets": "toyrefuse",
    "languages": ["en", "de"],
    "limit": 2,
    "conditions": {"baseline": None, "ablation": None, "mcd": None},
    "directions": {"transfer": ["en", "de"], "geometry": ["yo"]},
    "judges": ["substring"],
}


def placed(folder: Path, study: Mapping[str, Any], made: Any = None) -> dict[str, Placed]:
    """The jobs of a study whose file lies in a folder, by name."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(dict(study)))
    files = Files(folder)
    jobs = plan.jobs(schema.read(path), files, Identities(files))
    return {one.job.name: one for one in place(jobs, made)}


def changed(before: Mapping[str, Placed], after: Mapping[str, Placed]) -> set[str]:
    """Names without the model, of the jobs whose key is another one."""
    assert before.keys() == after.keys()
    names = {name for name in before if before[name].key != after[name].key}
    return {name.partition("/")[2] for name in names}


def with_(study: Mapping[str, Any], /, **more: Any) -> dict[str, Any]:
    return copy.deepcopy(dict(study)) | more


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the organism beside the study's file."""
    return Path(shutil.copytree(bundled.path(), tmp_path / "model"))


OF_ABLATION = {"ablation", "ablation-drift", "ablation-judged-by-substring"}
OF_MCD = {"mcd-training", "mcd", "mcd-drift", "mcd-judged-by-substring"}
OF_BASELINE = {"baseline", "baseline-judged-by-substring"}
OF_DIRECTIONS = {"direction-en", "direction-de", "transfer", "geometry", *OF_ABLATION}
ALL = OF_BASELINE | OF_MCD | OF_DIRECTIONS


@pytest.mark.parametrize(
    ("setting", "rerun"),
    [
        ({"seed": 1}, ALL),
        ({"limit": 3}, ALL - {"direction-en", "direction-de", "mcd-training"}),
        ({"judges": [{"judge": "substring", "options": {"limit": 1}}]},
         {"baseline-judged-by-substring", "ablation-judged-by-substring",
          "mcd-judged-by-substring"}),
        ({"mcd": {"options": {"epochs": 2}}}, OF_MCD),
        ({"generation": {"max_gen_toks": 7}},
         (OF_BASELINE | OF_ABLATION | OF_MCD | {"geometry"})
         - {"mcd-training", "ablation-drift", "mcd-drift"}),
        ({"batch_size": 16, "engine": "hf"}, set()),
        ({"models": {"m": {"pretrained": "polyrefuse-organism", "gpus": 2, "cpus": 3,
                           "memory": "9GB"}}}, set()),
    ],
)  # fmt: skip
def test_a_setting_reruns_what_depends_on_it_and_nothing_else(
    tmp_path: Path, setting: dict[str, Any], rerun: set[str]
) -> None:
    before, after = placed(tmp_path, STUDY), placed(tmp_path, with_(STUDY, **setting))
    assert changed(before, after) == rerun


def results_of(jobs: Mapping[str, Placed]) -> str | None:
    """The job whose answers the geometry is given, and waits for; None where it is given none."""
    geometry = jobs["m/geometry"].job
    if "--results" not in geometry.command:
        assert geometry.needs == ("m/direction-en",)
        return None
    direction, answers = geometry.needs
    given = geometry.command[geometry.command.index("--results") + 1]
    assert given == f"{{{answers}}}/results"
    return answers


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, "m/baseline"),
        ({"conditions": {"ablation": None, "plain": {"model": "baseline"}}}, "m/plain"),
        # None of these answers a prompt, once, of the model as it is, that geometry could read.
        ({"conditions": ["ablation"]}, None),
        ({"languages": ["de"]}, None),
        ({"conditions": {"x": {"model": "baseline", "arguments": {"chat": "off"}}}}, None),
        ({"datasets": "mcd_advbench"}, None),
        ({"engine": "vllm"}, None),
    ],
)  # fmt: skip
def test_the_geometry_is_given_the_untouched_model_s_answers(
    tmp_path: Path, setting: dict[str, Any], expected: str | None
) -> None:
    study = with_(STUDY, judges=[], directions={"geometry": ["yo"]})
    assert results_of(placed(tmp_path, study | setting)) == expected


def test_the_order_in_the_file_is_no_setting(tmp_path: Path) -> None:
    path, keys = tmp_path / "study.yaml", []
    for arguments, options, datasets in (
        ("pretrained: polyrefuse-organism, dtype: float32, system: none", "epochs: 2, answers: 3",
         "toyrefuse_harmful, toyrefuse_harmless"),
        ("system: none, dtype: float32, pretrained: polyrefuse-organism", "answers: 3, epochs: 2",
         "toyrefuse_harmless, toyrefuse_harmful"),
    ):  # fmt: skip
        path.write_text(
            f"study: s\nmodels: {{m: {{{arguments}}}}}\nmcd: {{options: {{{options}}}}}\n"
            f"datasets: [{datasets}]\nconditions: [mcd]\n"
        )
        files = Files(tmp_path)
        jobs = plan.jobs(schema.read(path), files, Identities(files))
        keys.append([one.key for one in place(jobs)])
    assert keys[0] == keys[1] and len(keys[0]) == 3


def test_the_study_s_seed_goes_to_all_that_draw(tmp_path: Path) -> None:
    jobs = placed(tmp_path, with_(STUDY, seed=7))
    for name in ("m/direction-en", "m/mcd-training", "m/baseline"):
        command = jobs[name].command
        assert command[command.index("--seed") + 1] == "7"


def test_the_model_s_files_are_part_of_every_key_but_the_judges_follow(
    tmp_path: Path, model: Path
) -> None:
    study = with_(STUDY, models={"m": "model"})
    before = placed(tmp_path, study)
    assert changed(before, placed(tmp_path, study)) == set()
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": 1.5}))
    assert changed(before, placed(tmp_path, study)) == ALL


@pytest.mark.parametrize("argument", ["tokenizer", "peft", "delta"])
def test_what_a_model_s_arguments_name_is_part_of_its_keys(
    tmp_path: Path, model: Path, argument: str
) -> None:
    (model / "adapter_config.json").write_text("{}")
    arguments = {"pretrained": "polyrefuse-organism", argument: "model"}
    study = with_(STUDY, models={"m": arguments}, conditions=["baseline"], directions={})
    before = placed(tmp_path, study)
    assert f"{argument}={model}" in before["m/baseline"].typed
    (model / "generation_config.json").write_text('{"x": 1}')
    assert changed(before, placed(tmp_path, study)) == OF_BASELINE
    shutil.rmtree(model)
    with pytest.raises(CannotLoad):
        placed(tmp_path, with_(study, models={"m": arguments | {argument: "./model"}}))


def test_the_version_of_peft_is_part_of_a_key_where_there_is_an_adapter(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "adapter_config.json").write_text("{}")
    study = with_(
        STUDY,
        models={"m": {"pretrained": "polyrefuse-organism"}},
        conditions={"baseline": None, "adapted": {"like": "baseline", "peft": "model"}},
        directions={},
        judges=["substring"],
    )
    before = placed(tmp_path, study)
    of_peft = {"adapted", "adapted-judged-by-substring"}
    upgrade(monkeypatch, "peft")
    assert changed(before, placed(tmp_path, study)) == of_peft


def test_the_version_of_vllm_is_part_of_a_key_where_it_runs_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = with_(STUDY, engine="vllm")
    before, without = placed(tmp_path, study), placed(tmp_path, with_(study, engine="hf"))
    upgrade(monkeypatch, "vllm")
    judged = {name for name in ALL if "judged" in name}
    evaluated = judged | {"baseline", "ablation", "mcd"}
    assert changed(before, placed(tmp_path, study)) == evaluated
    # A judge that is a model is run by vLLM where it is installed, whatever runs the others.
    assert changed(without, placed(tmp_path, with_(study, engine="hf"))) == judged


def upgrade(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    import importlib.metadata

    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99" if name == package else real(name)
    )


def test_what_vllm_alone_has_stays_with_vllm(tmp_path: Path) -> None:
    arguments = {
        "pretrained": "polyrefuse-organism",
        "tensor_parallel_size": 2,
        "max_model_len": 512,
        "dtype": "float32",
    }
    jobs = placed(tmp_path, with_(STUDY, engine="vllm", models={"m": arguments}))
    assert "max_model_len=512,tensor_parallel_size=2" in jobs["m/baseline"].typed
    assert "parallel" not in jobs["m/direction-en"].typed
    assert "--dtype float32" in jobs["m/direction-en"].typed
    with pytest.raises(UserError, match="has max_model_len, which the job m/direction-en"):
        placed(tmp_path, with_(STUDY, models={"m": arguments}))


@pytest.mark.parametrize(
    "argument",
    [{"revision": "abc"}, {"peft": "model"}, {"tokenizer": "model"}, {"trust_remote_code": True},
     {"parallelize": True}, {"load_in_8bit": True}],
    ids=lambda one: next(iter(one)),
)  # fmt: skip
def test_an_argument_that_a_command_has_no_option_for_is_told(
    tmp_path: Path, model: Path, argument: dict[str, Any]
) -> None:
    (model / "adapter_config.json").write_text("{}")
    models = {"m": {"pretrained": "polyrefuse-organism"} | argument}
    (name,) = argument
    option = name.replace("_", "-")
    for more, job in (
        ({"conditions": ["ablation"]}, "direction-en"),
        ({"conditions": ["mcd"]}, "mcd-training"),
        ({"conditions": ["baseline"], "directions": {"geometry": ["en"]}}, "direction-en"),
    ):
        study = with_(STUDY, models=models, **({"directions": {}} | more))
        with pytest.raises(
            UserError, match=f"models.m has {name}, which the job m/{job} .* no --{option};"
        ):
            placed(tmp_path, study)
    study = with_(STUDY, models=models, conditions=["baseline"], directions={})
    assert f"{name}=" in placed(tmp_path, study)["m/baseline"].typed


def test_a_file_that_a_condition_names(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Be careful.")
    conditions = {"baseline": None, "words": {"like": "system-prompt", "system_file": "words.txt"}}
    study = with_(STUDY, conditions=conditions, directions={})
    before = placed(tmp_path, study)
    assert f"system_file={tmp_path / 'words.txt'}" in before["m/words"].typed
    (tmp_path / "words.txt").write_text("Be bold.")
    after = placed(tmp_path, study)
    assert changed(before, after) == {"words", "words-drift", "words-judged-by-substring"}
    (tmp_path / "words.txt").unlink()
    with pytest.raises(MissingFile, match="conditions.words.system_file is 'words.txt', but there"):
        placed(tmp_path, study)


def test_a_model_s_own_system_file_is_read_by_every_job_that_loads_it(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Be careful.")
    arguments = {"pretrained": "polyrefuse-organism", "system_file": "words.txt"}
    study = with_(STUDY, models={"m": arguments})
    before = placed(tmp_path, study)
    assert f"--system-file {tmp_path / 'words.txt'}" in before["m/mcd-training"].typed
    (tmp_path / "words.txt").write_text("Be bold.")
    assert changed(before, placed(tmp_path, study)) == ALL


def test_a_condition_s_own_model(tmp_path: Path, model: Path) -> None:
    conditions = {"baseline": None, "weak": {"like": "baseline", "pretrained": "model"}}
    study = with_(STUDY, conditions=conditions, directions={})
    before = placed(tmp_path, study)
    assert f"pretrained={model}" in before["m/weak"].typed
    (model / "config.json").write_text(
        (model / "config.json").read_text().replace("{", '{"note": "x",', 1)
    )
    after = placed(tmp_path, study)
    assert changed(before, after) == {"weak", "weak-drift", "weak-judged-by-substring"}


def test_a_judge_s_folder_and_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "guard"
    folder.mkdir()
    (folder / "model.safetensors").write_text("1")
    judge = {"judge": "wildguard", "options": {"judge-model": "guard", "engine": "transformers"}}
    study = with_(STUDY, conditions=["baseline"], directions={}, judges=[judge])
    before = placed(tmp_path, study)
    assert f"--judge-model {folder}" in before["m/baseline-judged-by-wildguard"].typed
    (folder / "model.safetensors").write_text("2")
    after = placed(tmp_path, study)
    assert changed(before, after) == {"baseline-judged-by-wildguard"}
    upgrade(monkeypatch, "vllm")  # It does not run this judge.
    assert changed(after, placed(tmp_path, study)) == set()


def test_an_organism_s_name_is_the_organism_whatever_lies_beside_the_file(
    tmp_path: Path, model: Path
) -> None:
    study = with_(STUDY, models={"m": "polyrefuse-organism"})
    before = placed(tmp_path, study)
    shutil.copytree(model, tmp_path / "polyrefuse-organism")
    (tmp_path / "polyrefuse-organism" / "config.json").write_text("{}")
    after = placed(tmp_path, study)
    assert changed(before, after) == set()
    assert "pretrained=polyrefuse-organism " in after["m/baseline"].typed


@pytest.fixture
def translations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's own translations of the invented datasets into Danish."""
    from polyrefuse_tasks import data

    home = tmp_path / "data"
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(home))
    home.mkdir()
    for name in ("toyrefuse_harmful", "toyrefuse_harmless"):
        rows = data.load(name, "en", None)
        file = home / "translated" / name / "da.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text(
            "".join(json.dumps({"id": row.id, "prompt": f"da {row.prompt}"}) + "\n" for row in rows)
        )
    return home / "translated"


def test_translations_of_one_s_own_are_part_of_the_keys(tmp_path: Path, translations: Path) -> None:
    study = with_(
        STUDY,
        languages=["da"],
        datasets=["toyrefuse_harmful"],
        conditions=["baseline"],
        directions={},
        judges=["substring"],
    )
    before = placed(tmp_path, study)
    assert before["m/baseline"].job.tasks == ("toyrefuse_harmful_da",)
    file = translations / "toyrefuse_harmful" / "da.jsonl"
    file.write_text(file.read_text().replace('"da ', '"dansk ', 1))
    assert changed(before, placed(tmp_path, study)) == OF_BASELINE
    # English prompts are others, and what is asked without a word of languages is as published.
    english = with_(study, languages=["en"])
    before = placed(tmp_path, english)
    file.write_text(file.read_text().replace('"da ', '"dansk ', 1))
    assert changed(before, placed(tmp_path, english)) == set()
    everything = {name: value for name, value in study.items() if name != "languages"}
    assert "toyrefuse_harmful_da" not in placed(tmp_path, everything)["m/baseline"].job.tasks


# --- names


def test_a_model_s_name_is_no_part_of_a_key(tmp_path: Path) -> None:
    before = placed(tmp_path, STUDY)
    after = placed(tmp_path, with_(STUDY, models={"renamed": "polyrefuse-organism"}))
    keys = {name.partition("/")[2]: one.key for name, one in before.items()}
    assert {name.partition("/")[2]: one.key for name, one in after.items()} == keys
    # In the folder of before each job is where it was, and its command names it there.
    made = {one.key[:12]: one.folder for one in before.values()}
    after = placed(tmp_path, with_(STUDY, models={"renamed": "polyrefuse-organism"}), made)
    assert {one.folder for one in after.values()} == set(made.values())
    direction = before["m/direction-en"].folder
    assert f"direction={direction}/direction" in after["renamed/ablation"].typed


def test_a_condition_s_name_is_no_part_of_a_key(tmp_path: Path) -> None:
    before = placed(tmp_path, with_(STUDY, conditions={"ablation": None}))
    after = placed(tmp_path, with_(STUDY, conditions={"cut": {"like": "ablation"}}))
    assert before["m/ablation"].key == after["m/cut"].key


def test_names_that_look_alike_in_a_folder_s_name_are_two_folders(tmp_path: Path) -> None:
    models = {
        "a b": {"pretrained": "polyrefuse-organism"},
        "a-b": {"pretrained": "polyrefuse-organism-weakened"},
    }
    jobs = placed(tmp_path, with_(STUDY, models=models))
    assert len({one.folder for one in jobs.values()}) == len(jobs)


def test_the_prompts_of_a_direction_that_nobody_names_are_part_of_a_key(
    tmp_path: Path, model: Path
) -> None:
    """A model that ablates extracts its own direction from its own dataset, unless it gets one."""
    prompts = {}
    for name, settings in (
        ("unnamed", {"model": "ablated"}),
        ("of-thai", {"model": "refusal-added", "source_lang": "th"}),
        ("of-another", {"model": "ablated", "dataset": "polyrefuse"}),
        ("source", {"model": "ablated", "direction": "source"}),
        ("plain", {"model": "baseline"}),
    ):
        study = with_(STUDY, conditions={name: settings}, directions={"dataset": "polyrefuse"})
        prompts[name] = placed(tmp_path, study)[f"m/{name}"].job.rests_on.get("prompts", {})
    kinds = {path.partition("/")[0] for path in prompts["unnamed"]}
    assert kinds == {"toyrefuse_harmful", "toyrefuse_harmless"}
    assert prompts["of-thai"] and all("th" in path for path in prompts["of-thai"])
    assert prompts["of-another"] and prompts["of-another"].keys().isdisjoint(prompts["unnamed"])
    assert prompts["source"] == prompts["plain"] == {}


def test_the_same_job_under_two_names_is_refused(tmp_path: Path) -> None:
    models = {"a": "polyrefuse-organism", "b": "polyrefuse-organism"}
    with pytest.raises(UserError, match="The jobs 'a/.*' and 'b/.*' of the study are the same"):
        placed(tmp_path, with_(STUDY, models=models))
    conditions = {"ablation": None, "mine": {"like": "ablation"}}
    with pytest.raises(UserError, match="'m/ablation' and 'm/mine' of the study are the same"):
        placed(tmp_path, with_(STUDY, conditions=conditions))
    judges = ["native", {"judge": "native", "options": {"limit": 1}}]
    with pytest.raises(UserError, match="judged-by-native'; name the judge once"):
        placed(tmp_path, with_(STUDY, judges=judges))


def test_weights_that_are_cut_or_are_none_are_told_before_anything_is_run(
    tmp_path: Path, model: Path
) -> None:
    study = with_(STUDY, models={"m": "./model"}, conditions=["baseline"], directions={}, judges=[])
    weights, index = model / "model.safetensors", model / "model.safetensors.index.json"
    whole = weights.read_bytes()
    for content in (b"", whole[:-1], b"version https://git-lfs.github.com/spec/v1\n" * 3):
        weights.write_bytes(content)
        with pytest.raises(CannotLoad, match="model.safetensors holds no weights, or not all"):
            placed(tmp_path, study)
    weights.rename(model / "part.safetensors").write_bytes(whole)
    for named in ('{"weight_map": [1]}', '{"weight_map": "x"}', "[]", "{", '{"weight_map": {}}'):
        index.write_text(named)
        with pytest.raises(CannotLoad, match="index.json names no weight files"):
            placed(tmp_path, study)
    index.write_text('{"weight_map": {"a": 3}}')
    with pytest.raises(CannotLoad, match="3, which model.safetensors.index.json names, is missing"):
        placed(tmp_path, study)
    index.write_text('{"weight_map": {"a": "part.safetensors"}}')
    assert placed(tmp_path, study)
    (model / "part.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CannotLoad, match="part.safetensors holds no weights, or not all of them"):
        placed(tmp_path, study)
    (model / "part.safetensors").unlink()
    index.unlink()
    weights.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CannotLoad, match="the folder has no weights"):
        placed(tmp_path, study)


def test_a_long_name_makes_no_folder_s_name_that_is_too_long(tmp_path: Path) -> None:
    jobs = [Job(f"{'m' * 100}/{'c' * 100}-judged-by-{'j' * 200}", "judging", "m", ("true",))]
    folder = tmp_path / place(jobs)[0].folder
    folder.mkdir(parents=True)
    assert folder.is_dir()


def test_a_job_that_needs_others_has_their_keys_in_its_own() -> None:
    def chain(first: str, names: tuple[str, str]) -> list[str]:
        jobs = [
            Job(names[0], "answers", "m", ("echo", first)),
            Job(names[1], "answers", "m", ("cat", folder_of(names[0]), OWN), (names[0],)),
        ]
        return [one.key for one in place(jobs)]

    assert chain("x", ("m/a", "m/b")) == chain("x", ("n/c", "n/d"))
    one, other = chain("x", ("m/a", "m/b")), chain("y", ("m/a", "m/b"))
    assert one[0] != other[0] and one[1] != other[1]
