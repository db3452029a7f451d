"""An installed distribution that brings judges: what another package is to this one."""

from __future__ import annotations

import os
from pathlib import Path

MODULE = '''
"""Judges of an invented package: by marks in the answer, or by the length of the prompt."""

import os

from polyrefuse_tasks.judges import Judgement, Label


def log(name, responses, languages, prompts):
    if "JUDGE_LOG" in os.environ:
        with open(os.environ["JUDGE_LOG"], "a", encoding="utf-8") as file:
            file.write(f"{name} {len(responses)} {len(languages)} {len(prompts)}\\n")


class Refusal:
    name, measures, english_only = "other-refusal", "refusal", False

    def judge(self, responses, languages, prompts):
        log(self.name, responses, languages, prompts)
        labels = [Label.REFUSAL if "no" in text else Label.COMPLIANCE for text in responses]
        return [Judgement(label, "by no") for label in labels]


def harm(prompt):
    """Undecided for prompts of a length that five divides; harmful for the other even ones."""
    return None if len(prompt) % 5 == 0 else len(prompt) % 2 == 0


class Harm:
    name, measures, english_only = "other-harm", "harm", False

    def judge(self, responses, languages, prompts):
        log(self.name, responses, languages, prompts)
        verdicts = [harm(prompt) for prompt in prompts]
        return [
            Judgement(Label.UNDECIDED if verdict is None else None, "by length", verdict)
            for verdict in verdicts
        ]


class Both:
    name, measures, english_only = "other-both", "both", True

    def judge(self, responses, languages, prompts):
        log(self.name, responses, languages, prompts)
        return [
            Judgement(Label.REFUSAL if "no" in text else Label.COMPLIANCE, text, harm(prompt))
            for text, prompt in zip(responses, prompts)
        ]


class Broken:
    english_only = False

    def __init__(self, name, returned, measures="refusal"):
        self.name, self.returned, self.measures = name, returned, measures

    def judge(self, responses, languages, prompts):
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned


REFUSAL, HARM, BOTH = Refusal(), Harm(), Both()
RAISES = Broken("raises", RuntimeError("out of\\n\\tmemory"))
FEW = Broken("few", [])
NOTHING = Broken("nothing", None)
STRINGS = Broken("strings", ["refusal"])
WORD = Broken("word", [Judgement("refusal")])
PLAIN = Broken("plain", [Judgement(Label.REFUSAL, b"bytes")])
NAN = Broken("nan", [Judgement(None, None, float("nan"))], "harm")
NO_LABEL = Broken("no-label", [Judgement(None)])
VERDICT = Broken("verdict", [Judgement(Label.REFUSAL, None, True)])
LABELS_HARM = Broken("labels-harm", [Judgement(Label.COMPLIANCE)], "harm")
CONTRADICTS = Broken("contradicts", [Judgement(Label.UNDECIDED, None, True)], "harm")
RENAMED = Broken("another-name", [])
TASTE = Broken("taste", [], "taste")
NATIVE = Broken("native", [])
SILENT = Broken("silent", [])
SILENT.english_only = "no"
'''


def install(folder: Path, entries: dict[str, str], name: str = "invented-judges") -> None:
    """Write a distribution into a folder, as pip would: its package and its `dist-info`.

    Args:
        entries: name of each judge, and the object in the package.
        name: of the distribution.
    """
    package = name.replace("-", "_")
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(MODULE, encoding="utf-8")
    (folder / package / "broken.py").write_text("raise OSError('no\\nweights')\n", encoding="utf-8")
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = "".join(f"{judge} = {package}{where}\n" for judge, where in entries.items())
    (metadata / "entry_points.txt").write_text(f"[polyrefuse.judges]\n{lines}", encoding="utf-8")


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """The environment of a process that finds what is installed in these folders."""
    path = os.pathsep.join(map(str, folders))
    return os.environ | {"PYTHONPATH": path} | variables
