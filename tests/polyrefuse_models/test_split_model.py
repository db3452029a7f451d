"""A model split among places (`parallelize=True`): on a CPU and on the disk, by accelerate's hooks.

Two GPUs are split by the same hooks, which move what a block reads to the block's device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import save_file

from polyrefuse_models.interventions.orthogonalise import NotExact
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import Prompt
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, McdHF, RefusalAddedHF

WHOLE = {f"model.{part}": "cpu" for part in ("embed_tokens", "norm", "rotary_emb")}
SPLIT = WHOLE | {f"model.layers.{i}": "cpu" if i < 2 else "disk" for i in range(4)}
DEVICE_MAP = SPLIT | {"lm_head": "disk"}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("artifacts")
    generator = torch.Generator().manual_seed(3)
    save_file({"direction": torch.randn(32, generator=generator)}, folder / "d.safetensors")
    artifact.save(Prompt(torch.randn(4, 32, generator=generator)), folder / "prompt")
    return {"direction": str(folder / "d.safetensors"), "prompt": str(folder / "prompt")}


def answers(lm: BaselineHF) -> list[str]:
    settings = {"until": [], "do_sample": False, "max_gen_toks": 12}
    prompts = ("What is a glimmerfish?", "Name three rivers in Quend, and two lakes.")
    return lm.generate_until(
        [
            Instance("generate_until", {}, (prompt, dict(settings)), 0, ("t", place, 1))
            for place, prompt in enumerate(prompts)
        ],
        disable_tqdm=True,
    )


@pytest.mark.parametrize(
    ("wrapper", "named", "more"),
    [
        (BaselineHF, (), {}),
        (AblatedHF, ("direction",), {"method": "hooks"}),
        (AblatedHF, ("direction", "prompt"), {}),  # auto, which must not take weights
        (RefusalAddedHF, ("direction",), {"layer": 2}),
        (McdHF, ("prompt",), {}),
    ],
)
def test_answers_are_those_of_the_whole_model(
    wrapper: type[BaselineHF],
    named: tuple[str, ...],
    more: dict[str, Any],
    artifacts: dict[str, str],
    chat_model: Path,
    tmp_path: Path,
) -> None:
    given = {"pretrained": str(chat_model), "device": "cpu", "batch_size": 2}
    given |= {name: artifacts[name] for name in named} | more
    split = wrapper(
        **given, parallelize=True, device_map=DEVICE_MAP, offload_folder=str(tmp_path / "offload")
    )
    assert any(parameter.is_meta for parameter in split.model.parameters())
    assert set(split.model.hf_device_map.values()) == {"cpu", "disk"}
    said = answers(split)
    assert said == answers(wrapper(**given))
    assert wrapper is BaselineHF or said != answers(
        BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=2)
    )


def test_weights_that_are_not_in_memory_are_not_edited(
    artifacts: dict[str, str], chat_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotExact, match="some weights are offloaded; use method=hooks"):
        AblatedHF(
            pretrained=str(chat_model),
            direction=artifacts["direction"],
            method="weights",
            device="cpu",
            parallelize=True,
            device_map=DEVICE_MAP,
            offload_folder=str(tmp_path),
        )


@pytest.mark.slow
def test_a_direction_extracted_from_a_split_model(tmp_path: Path) -> None:
    given = {"device": "cpu", "batch_size": 8}
    whole = AblatedHF(**given, method="hooks").asked.direction
    split = AblatedHF(
        **given,
        parallelize=True,
        device_map=DEVICE_MAP,
        offload_folder=str(tmp_path),
    ).asked.direction
    places = [(one.metadata["position"], one.metadata["layer"]) for one in (whole, split)]
    assert places[0] == places[1]
    torch.testing.assert_close(split.direction, whole.direction, atol=1e-5, rtol=1e-5)
