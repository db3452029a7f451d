"""The benchmarks run, and say what they measured; the figures themselves are not tested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import batching, gpu, hooks, selection
from benchmarks.random_model import SHAPES, make_model
from benchmarks.rounds import Spread, ratios
from polyrefuse_models import cudnn_attention
from polyrefuse_models.directions.search import score_all, search
from polyrefuse_models.weights import weights_checksum
from polyrefuse_shared.errors import UserError
from tests.conftest import ROOT
from tests.models import make_tokenizer
from tests.test_repair import run


def test_ratios_are_of_one_round() -> None:
    rounds = [{"hf": 1.0, "ours": 1.5}, {"hf": 10.0, "ours": 11.0}, {"hf": 2.0, "ours": 2.0}]
    assert ratios(rounds, "ours", "hf") == Spread(1.0, 1.1, 1.5, 3)


@pytest.mark.parametrize(
    ("median", "target", "least", "met"),
    [(1.1, 1.15, False, True), (1.2, 1.15, False, False), (8.0, 8.0, True, True)]
    + [(7.9, 8.0, True, False), (7.9, None, False, None)],
)
def test_a_line_tells_whether_its_target_is_met(
    median: float, target: float | None, least: bool, met: bool | None
) -> None:
    line = gpu.Line("what", Spread(0.1, median, 99.0, 3), "x hf", target, least)
    assert line.met is met
    assert ("met" in line.text()) == (met is True)
    assert ("missed" in line.text()) == (met is False)


def test_the_four_conditions_do_what_they_are_called() -> None:
    """hf is untouched, and the other three answer the same, which is not what hf answers."""
    model = make_model(SHAPES["tiny"], "cpu", torch.float32, spread=0.2)
    ways = hooks.conditions(model)
    ids = hooks.make_ids(model, 2, 6)
    logits = []
    for condition in ways.values():
        with condition() as one:
            logits.append(hooks.prefill(one, ids))
    torch.testing.assert_close(logits[0], hooks.prefill(model, ids))
    for ablated in logits[2:]:
        torch.testing.assert_close(ablated, logits[1], atol=1e-4, rtol=1e-4)
    assert (logits[0] - logits[1]).abs().max() > 0.1


def test_six_sweeps_choose_as_the_search_does() -> None:
    model = make_model(
        selection.CPU_SHAPE | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5},
        "cpu",
        torch.float32,
        spread=0.15,
    )
    trial = selection.make_trial(model, head=5, batch_size=8, prompts=3)
    plain = selection.six_sweeps(trial)
    chosen, _ = score_all(trial)
    (same,) = (c for c in plain if (c.position, c.layer) == (chosen.position, chosen.layer))
    assert chosen.scores() == pytest.approx(same.scores(), abs=1e-4)
    found, _ = search(trial)
    assert (found.position, found.layer) == (chosen.position, chosen.layer)
    # Of every eighth of 25; those of layer 0 are no numbers, since the template's end is the same.
    some = selection.six_sweeps(trial, sampled=3)
    assert [(c.position, c.layer) for c in some] == [(-5, 0), (-4, 3), (-2, 1)]


def test_the_table_of_selection_is_of_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    cost = selection.Cost
    rounds = [
        {"six sweeps": cost(8.0, 16.0), "ours": cost(1.0, 1.0)},
        {"six sweeps": cost(30.0, 16.0), "ours": cost(3.0, 4.0)},
        {"six sweeps": cost(18.0, 16.0), "ours": cost(2.0, 2.0)},
    ]
    _, _, ours = selection.table(rounds)
    name, *figures = ours.rsplit(maxsplit=11)
    assert name == "ours"
    assert " ".join(figures) == "1.0 2.0 3.0 8.0 9.0 10.0 4.0 8.0 16.0 >= 8"


def test_scripted_answers_have_the_length_that_a_prompt_asks_for() -> None:
    model, tokenizer = make_model(SHAPES["tiny"], "cpu", torch.float32), make_tokenizer()
    before = weights_checksum(model)
    batching.script(model, tokenizer, short=4, long=11)
    assert weights_checksum(model) != before
    for kind, length in ((batching.SHORT, 4), (batching.LONG, 11)):
        for prompt in (f"Tell me {kind}", f"{'.' * 30} 7 {kind}"):
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            output = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30
            )[0, ids.shape[1] :].tolist()
            assert output[-1] == model.config.eos_token_id
            assert len(output) == length
    requests = batching.make_requests(50, 11)
    long = [r for r in requests if r.args[0].endswith(batching.LONG)]
    assert len(long) == 5
    assert all(r.args[0][-1] in (batching.SHORT, batching.LONG) for r in requests)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_ways_are_held_to_the_script_in_any_dtype(dtype: torch.dtype) -> None:
    model, tokenizer = make_model(SHAPES["tiny"], "cpu", dtype), make_tokenizer()
    batching.script(model, tokenizer, short=4, long=11)
    ways = batching.make_ways(model, tokenizer, "cpu", batch_size=4)
    requests = batching.make_requests(12, 11)
    static, continuous, sdpa = (batching.answer(lm, requests) for lm in ways.values())
    lengths = {batching.SHORT: 4, batching.LONG: 11}
    assert [text.count("<") + 1 for text in static] == [lengths[r.args[0][-1]] for r in requests]
    batching.check(static, continuous)
    batching.check(static, sdpa)
    with pytest.raises(SystemExit, match="differ in 1 of 12 answers"):
        batching.check(static, [continuous[0] + "<300>", *continuous[1:]])
    with pytest.raises(SystemExit, match="gave 12 different answers, and its script has"):
        batching.check(*2 * [[f"{i}" for i in range(12)]])
    rounds = batching.measure(ways, requests, requests[:4], "cpu", rounds=2)
    for entry in rounds:
        for name in ("continuous", "continuous, SDPA"):
            set_up, warm = entry[f"{name}, set-up"], entry[f"{name}, warm"]
            assert 0 < set_up < entry[name]
            assert warm == entry[name] - set_up
        assert "static, set-up" not in entry


def test_a_part_of_the_page_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    lines = [gpu.Line(f"line {i}", Spread(1.0, 2.0, 3.0, 4), "s") for i in range(3)]

    def out_of_memory(*_: object) -> Iterator[gpu.Line]:
        yield lines[0]
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")

    def not_taken(*_: object) -> Iterator[gpu.Line]:
        assert [line["what"] for line in json.loads(output.read_text())["lines"]] == ["line 0"]
        raise SystemExit("batching=continuous was not taken")
        yield

    def as_meant(*_: object) -> Iterator[gpu.Line]:
        yield lines[1]

    def bad_input(*_: object) -> Iterator[gpu.Line]:
        yield lines[2]
        raise UserError("batching=continuous is not possible")

    parts = {"of_hooks": out_of_memory, "of_selection": not_taken}
    for name, part in (parts | {"of_checksum": as_meant, "of_batching": bad_input}).items():
        monkeypatch.setattr(gpu, name, part)
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--tiny", "--device", "cpu", "--output", str(output)])
    assert ended.value.code == 1
    document = json.loads(output.read_text())
    assert [line["what"] for line in document["lines"]] == ["line 0", "line 1", "line 2"]
    assert document["failed"] == [
        {"part": "hooks", "reason": "OutOfMemoryError: CUDA out of memory."},
        {"part": "selection", "reason": "SystemExit: batching=continuous was not taken"},
        {"part": "batching", "reason": "UserError: batching=continuous is not possible"},
    ]
    told = capsys.readouterr().out
    for failed in document["failed"]:
        assert f"{failed['part']} failed: {failed['reason']}\n" in told


def test_cudnn_attention_is_measured_in_turns() -> None:
    cuda, seen = torch.backends.cuda, []
    before = cuda.cudnn_sdp_enabled()

    def work() -> float:
        with cudnn_attention.without_cudnn_attention():
            seen.append(cuda.cudnn_sdp_enabled())
        return float(len(seen))

    cuda.enable_cudnn_sdp(True)
    try:
        assert gpu.with_cudnn_to_without(work, 3) == Spread(0.5, 0.75, 5 / 6, 3)
    finally:
        cuda.enable_cudnn_sdp(before)
    assert seen == [True, False] * 3


@pytest.mark.slow
def test_the_page_of_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    told = run("benchmarks.gpu", "--tiny", "--device", "cpu", "--output", str(output), cwd=ROOT)
    document = json.loads(output.read_text())
    assert document["card"] == "the CPU"
    assert document["versions"]["torch"] == torch.__version__
    for line in document["lines"]:
        assert line["what"] in told
        least, median, most, n = line["figure"].values()
        assert 0 < least <= median <= most and n >= 1
    targets = {line["target"] for line in document["lines"]}
    assert {1.02, 1.05, 1.15, 8.0, 3.0} <= targets


def test_without_a_gpu_the_page_says_what_to_do(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match="no GPU that it can use. Try --tiny --device cpu"):
        gpu.main([])
