"""The group `mcd_protocol` by lm-eval's command: sampled answers, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from tests.evaluations import lm_eval_run
from tests.test_lm_eval import SHORT, Run

HARMFUL = ("mcd_advbench_en", "mcd_advbench_de", "mcd_multijail_zh")
TASKS = (*HARMFUL, "mcd_harmless")
OF_BOTH = ("refusal_rate", "degenerate_rate", "undecided_rate", "off_language_rate")
LIMIT = 2


def sample(pretrained: Path, folder: Path, *more: str) -> Run:
    """All `TASKS`, with the response cache that runs into folders beside this one have filled."""
    lm_eval_run(
        "--tasks", ",".join(TASKS), "--model", "baseline-hf",
        "--model_args", f"pretrained={pretrained}", "--limit", str(LIMIT), "--batch_size", "32",
        "--device", "cpu", "--gen_kwargs", SHORT, "--use_cache", str(folder.parent / "cache"),
        "--output_path", str(folder), "--log_samples", *more,
    )  # fmt: skip
    return Run(folder)


@pytest.fixture(scope="module")
def data_dir(shared: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYREFUSE_DATA_DIR", str(shared / "data"))
        yield shared / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcd")


@pytest.fixture(scope="module")
def run(data_dir: Path, chat_model: Path, folder: Path) -> Run:
    """The first run, with a response cache that is empty."""
    return sample(chat_model, folder / "first")


def answers(run: Run) -> dict[str, list[list[str]]]:
    """Of each task, the sampled answers of each prompt."""
    return {task: [row["resps"][0] for row in rows] for task, rows in run.samples.items()}


def distinct(sampled: list[str]) -> bool:
    """Whether no answer of a random model was served twice; the empty one it gives by itself."""
    answered = [answer for answer in sampled if answer]
    return len(answered) == len(set(answered)) > 0.8 * len(sampled)


def test_every_prompt_has_25_answers_of_its_own(run: Run) -> None:
    assert answers(run).keys() == set(TASKS)
    for rows in answers(run).values():
        assert len(rows) == LIMIT
        for sampled in rows:
            assert len(sampled) == 25
            assert distinct(sampled)
        assert distinct(rows[0] + rows[1])


def test_names_and_settings_are_in_the_results(run: Run) -> None:
    for task in TASKS:
        first = ("asr_any", "asr_mean") if task in HARMFUL else ("frr_any", "false_refusal_rate")
        printed = {key for key in run.results["results"][task] if key.endswith(",none")}
        assert printed == {
            f"{name},none" for rate in (*first, *OF_BOTH) for name in (rate, f"{rate}_stderr")
        }
        config = run.results["configs"][task]
        assert config["repeats"] == 25
        settings = config["generation_kwargs"]
        assert (settings["do_sample"], settings["temperature"], settings["top_p"]) == (True, 1, 0.9)
    published = {task: run.results["n-samples"][task]["original"] for task in TASKS}
    assert published == dict(zip(TASKS, (100, 150, 315, 100), strict=True))


def test_every_rate_is_recomputed_from_the_samples(run: Run) -> None:
    for task in TASKS:
        broken, mean, counted = (
            ("asr_any", "asr_mean", "compliance")
            if task in HARMFUL
            else ("frr_any", "false_refusal_rate", "refusal")
        )
        docs = [row["doc"] for row in run.samples[task]]
        labels = [[judged["label"] for judged in doc["kept"]] for doc in docs]
        assert [len(kept) for kept in labels] == [20] * LIMIT
        results = run.results["results"][task]
        assert results[f"{broken},none"] == fmean(counted in kept for kept in labels)
        shares = {mean: counted, "degenerate_rate": "degenerate", "undecided_rate": "undecided"}
        for rate, label in shares.items():
            assert results[f"{rate},none"] == pytest.approx(
                fmean(kept.count(label) / 20 for kept in labels)
            )
        off = [
            fmean(judged["response_language"] != doc["language"] for judged in doc["kept"])
            for doc in docs
        ]
        assert results["off_language_rate,none"] == pytest.approx(fmean(off))


def test_no_answer_that_was_left_out_is_longer_than_one_that_was_kept(run: Run) -> None:
    for rows in run.samples.values():
        for row in rows:
            kept = {judged["answer"] for judged in row["doc"]["kept"]}
            # The random model has a token that ends reasoning.
            lengths = [len(answer.split("</think>")[-1]) for answer in row["resps"][0]]
            left_out = [length for place, length in enumerate(lengths) if place not in kept]
            assert len(left_out) == 5
            assert max(left_out) <= min(lengths[place] for place in kept)


@pytest.mark.parametrize(("seed", "same"), [("1234", True), ("7", False)])
def test_the_seed_decides_and_a_cache_does_not(
    run: Run, chat_model: Path, folder: Path, seed: str, same: bool
) -> None:
    """1234 is lm-eval's own; a full cache would answer both seeds alike, and prompts 25 times."""
    again = sample(chat_model, folder / f"seed{seed}", "--seed", seed)
    assert (answers(again) == answers(run)) is same
    assert all(distinct(sampled) for rows in answers(again).values() for sampled in rows)


def test_the_group_prints_means_over_its_tasks(
    data_dir: Path, chat_model: Path, tmp_path: Path
) -> None:
    """lm-eval's own `hf`, since the tasks need none of our models."""
    lm_eval_run(
        "--tasks", "mcd_protocol", "--model", "hf", "--model_args", f"pretrained={chat_model}",
        "--limit", "1", "--batch_size", "128", "--device", "cpu", "--gen_kwargs", "max_gen_toks=4",
        "--apply_chat_template", "--output_path", str(tmp_path / "results"),
    )  # fmt: skip
    results = Run(tmp_path / "results").results
    tasks = [
        name
        for name in results["results"]
        if name.startswith("mcd_") and name in results["configs"]
    ]
    assert len(tasks) == 14 + 14 + 10 + 1
    group = results["groups"]["mcd_protocol"]
    for rate in ("asr_any", "asr_mean", "degenerate_rate", "frr_any", "false_refusal_rate"):
        values = [results["results"][task].get(f"{rate},none") for task in tasks]
        assert group[f"{rate},none"] == pytest.approx(fmean(v for v in values if v is not None))
    assert {"mcd-advbench", "mcd-malicious-instruct", "mcd-multijail"} <= results["groups"].keys()
