"""What setup.cfg says of the versions that were tried, held to what CI installs and it allows."""

from __future__ import annotations

import re
from configparser import ConfigParser

from packaging.requirements import Requirement
from packaging.version import Version

from polyrefuse_shared.versions import OLDEST_PYTHON, TRIED, TRIED_PYTHON
from tests.conftest import ROOT

SETUP = (ROOT / "setup.cfg").read_text(encoding="utf-8")


def tried(where: str) -> list[str]:
    """The versions on the line about `where`, in the order in which they stand there."""
    (line,) = re.findall(rf"# Tried {where}: (.+)", SETUP)
    return re.findall(r"\d+(?:\.\d+)+", line)


def allowed() -> dict[str, Requirement]:
    config = ConfigParser()
    config.read_string(SETUP)
    lines = config["options"]["install_requires"].split("\n")
    return {one.name: one for one in map(Requirement, filter(None, lines))}


def test_ci_installs_what_setup_cfg_says() -> None:
    pinned = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text()))
    assert tried("in CI") == [pinned[name] for name in ("torch", "transformers", "lm_eval")]


def test_what_is_allowed_begins_with_what_was_tried() -> None:
    by_hand = tried("by hand")
    lowest = {}
    for name in "torch", "transformers":
        (bound,) = allowed()[name].specifier
        assert bound.operator == ">="
        lowest[name] = Version(bound.version).release[:2]
    oldest = [Version(one).release[:2] for one in by_hand[-2:]]
    assert oldest == [lowest["torch"], lowest["transformers"]]


def test_doctor_holds_versions_to_what_was_tried() -> None:
    """The oldest and newest of each on the two lines, which name several versions of torch."""
    lines = " ".join(re.findall(r"# Tried (?:in CI|by hand): (.+)", SETUP))
    # "torch 2.15.0 and 2.13.0 with transformers 5.24.0; torch 2.6.0 with 5.16.0."
    torch = re.findall(r"torch (\d[\d.]*\d)(?: and (\d[\d.]*\d))?", lines)
    with_them = re.findall(r"(?:transformers|with) (\d[\d.]*\d)", lines)
    tried_of = {
        "torch": [one for pair in torch for one in pair if one],
        "transformers": with_them,
        "lm_eval": re.findall(r"lm-eval (\d[\d.]*\d)", lines),
    }
    for name, versions in tried_of.items():
        ordered = sorted(versions, key=Version)
        assert TRIED[name] == (ordered[0], ordered[-1])
    config = ConfigParser()
    config.read_string(SETUP)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    assert config["options"]["python_requires"] == f">={oldest}"
    (ci,) = re.findall(r"on Python (\d+\.\d+)", (ROOT / "constraints.txt").read_text())
    assert ".".join(map(str, TRIED_PYTHON)) == ci
