"""Evaluations on several processes: `python -m torch.distributed.run -m tests.ranked FOLDER`.

`FOLDER/cases.json` has the arguments of `lm_eval run` by the name of a case. Each process runs all
of them in turn, in `FOLDER/host<rank>`, as if it were on a machine of its own, and writes into
`FOLDER/CASE-<rank>.json` what it raised and how many directions it extracted.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from polyrefuse_models.directions import auto, prompts
from tests.evaluations import lm_eval_run

FEW = {"train": 24, "val": 8}
"""Prompts that a direction is extracted from, for speed."""


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    host = folder / f"host{rank}"
    host.mkdir(exist_ok=True)
    os.chdir(host)
    extract, extracted = auto.make_direction, []

    def make_direction(*given: Any, **named: Any) -> Any:
        extracted.append(None)
        return extract(*given, **named)

    auto.make_direction = make_direction
    prompts.SIZES = FEW
    for case, arguments in json.loads((folder / "cases.json").read_text()).items():
        extracted.clear()
        os.environ["POLYREFUSE_CACHE_DIR"] = str(folder / f"{case}.cache")
        try:
            lm_eval_run(*arguments)
            said = None
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        outcome = {"raised": said, "extracted": len(extracted)}
        (folder / f"{case}-{rank}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
