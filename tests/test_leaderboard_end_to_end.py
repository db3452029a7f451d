"""From `lm_eval` on the bundled organism to a page and a gate, as a user goes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from polyrefuse_tasks import languages
from tests.conftest import ROOT

FEW = ("en", "de")
"""All languages answer alike: two are enough to see that each is named."""

PROMPTS = 12
"""Where all of them get worse the gate sees it: 4 x 2^-12 is far below 0.05."""


def _command(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """A module of Python's, from this checkout; a CI job's own summary is not written to."""
    environment = {name: value for name, value in os.environ.items() if "GITHUB" not in name}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def _measure(folder: Path, model: str, tasks: str, *limit: str) -> None:
    done = _command(
        "lm_eval", "run", "--tasks", tasks, "--model", model, *limit, "--batch_size", "64",
        "--device", "cpu", "--log_samples", "--output_path", folder, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def _follow(folder: Path, asked: tuple[str, ...], tasks: str, *limit: str) -> None:
    """Measure a model before and after its ablation; build, update, check and check again."""
    before, after, baseline = folder / "before", folder / "after", folder / "baseline.json"
    _measure(before, "baseline-hf", tasks, *limit)
    _measure(after, "ablated-hf", tasks, *limit)

    site = folder / "site"
    built = _command("polyrefuse", "leaderboard", "build", before, after, "--output", site)
    assert built.returncode == 0
    # Of each of the two runs' two datasets, only some prompts were used.
    told = built.stderr.splitlines()
    assert len(told) == (1 if limit else 0)
    times = f"of 120 prompts were used ({' '.join(limit)}). (4 times; the page lists where)"
    assert all(line.endswith(times) for line in told)
    assert (site / "index.html").is_file()
    records = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))["records"]
    asr = {
        (record["condition"], record["language"]): record["value"]
        for record in records
        if record["metric"] == "asr" and record["language"] != "mean"
    }
    conditions = ("baseline", "ablation")
    assert asr.keys() == {(condition, lang) for condition in conditions for lang in asked}
    assert all(asr["ablation", lang] - asr["baseline", lang] > 0.8 for lang in asked)

    check = ("polyrefuse", "leaderboard", "check", "--baseline", baseline)
    updated = _command(*check, "--update", before)
    assert (updated.returncode, updated.stderr) == (0, "")
    assert f"{2 * len(asked)} cells of polyrefuse-organism, baseline" in updated.stdout

    same = _command(*check, before)
    assert (same.returncode, same.stderr) == (0, "")
    assert f"passed: {2 * len(asked)} comparisons" in same.stdout
    assert "too few prompts" not in same.stdout

    worse = _command(*check, after)
    assert (worse.returncode, worse.stderr) == (1, "")
    (named,) = re.findall(
        r"^FAILED: .*asr of toyrefuse_harmful by native in ([a-z, ]+)[;)]", worse.stdout, re.M
    )
    assert named.split(", ") == sorted(asked)


def test_two_languages(tmp_path: Path) -> None:
    tasks = ",".join(f"toyrefuse_{kind}_{lang}" for kind in ("harmful", "harmless") for lang in FEW)
    _follow(tmp_path, FEW, tasks, "--limit", str(PROMPTS))


@pytest.mark.slow
def test_all_tasks(tmp_path: Path) -> None:
    _follow(tmp_path, languages.POLYREFUSE, "toyrefuse")
