"""The judges by name: those of this package, and those that other packages add.

A package adds a judge by an entry point of the group `polyrefuse.judges`, as packages add models to
lm-eval. `name = "module:object"` names a `contract.Judge`:

    [project.entry-points."polyrefuse.judges"]
    my-judge = "my_package.my_module:JUDGE"

The module is imported only when somebody asks for the judge.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judges.contract import MEASURES, Judge, measures_refusal

GROUP = "polyrefuse.judges"
"""The group of entry points."""

OURS = "lm-eval-polyrefuse"

OWN = {
    "native": "polyrefuse_tasks.judges.native:JUDGE",
    "substring": "polyrefuse_tasks.judges.substring:JUDGE",
}
"""The judges of this package that need no model, in the form of entry points."""

MODELS = {
    "polyguard": "polyrefuse_tasks.judge_models.polyguard:JUDGE",
    "polyguard-smol": "polyrefuse_tasks.judge_models.polyguard:SMOL",
    "qwen3guard": "polyrefuse_tasks.judge_models.qwen3guard:JUDGE",
    "wildguard": "polyrefuse_tasks.judge_models.wildguard:JUDGE",
    "llamaguard2": "polyrefuse_tasks.judge_models.llamaguard:TWO",
    "llamaguard3": "polyrefuse_tasks.judge_models.llamaguard:THREE",
    "llamaguard4": "polyrefuse_tasks.judge_models.llamaguard:FOUR",
    "gpt-oss-safeguard": "polyrefuse_tasks.judge_models.gpt_oss_safeguard:JUDGE",
    "shieldstral": "polyrefuse_tasks.judge_models.shieldstral:JUDGE",
    "harmbench": "polyrefuse_tasks.judge_models.harmbench:JUDGE",
    "strongreject": "polyrefuse_tasks.judge_models.strongreject:JUDGE",
}
"""The judges of this package that are models, in the form of entry points."""

JUDGES: tuple[str, ...] = tuple(OWN)
"""The names of the judges of this package that need no model; the first is the default."""


class UnknownJudge(UserError):
    """No judge has this name."""


class BadJudge(UserError):
    """A judge cannot be used, or not for this purpose; the message names its package."""


def names() -> tuple[str, ...]:
    """List the names of all judges: those of this package, models last, then those of others."""
    others = {entry.name for entry in _entries()} - {*OWN, *MODELS}
    return (*OWN, *MODELS, *sorted(others))


@functools.cache
def judge_named(name: str) -> Judge:
    """Import and return the judge with this name.

    Raises:
        UnknownJudge: no judge has this name; the message lists the names.
        BadJudge: two packages have a judge of this name, its module cannot be imported, or the
            object is not a judge.
    """
    entry = _entry(name)
    try:
        judge: Any = entry.load()
        fault = _fault(judge, name)
    except Exception as error:
        raise BadJudge(
            f"The judge {name!r} of package {_package(entry)} cannot be loaded from {entry.value} "
            f"({described(error)}); fix or uninstall that package."
        ) from error
    if fault:
        raise BadJudge(
            f"The judge {name!r} of package {_package(entry)}: {entry.value} {fault}; fix or "
            "uninstall that package."
        )
    return cast(Judge, judge)


def check_judge(name: str) -> str:
    """Return the name of a judge after checking that the judge can be used.

    Raises:
        UnknownJudge, BadJudge: see `judge_named`.
    """
    judge_named(name)
    return name


def check_refusal_judge(name: str) -> str:
    """Return the name of a judge after checking that it measures refusal.

    Raises:
        UnknownJudge: see `judge_named`.
        BadJudge: see `judge_named`, or the judge measures only harm.
    """
    if not measures_refusal(judge_named(name).measures):
        raise BadJudge(
            f"The judge {name!r} of package {package_of(name)} measures only harm: name one that "
            "measures refusal here."
        )
    return name


def check_judge_beside_model(name: str) -> str:
    """Return the name of a judge after checking that it may run beside the measured model.

    Raises:
        UnknownJudge: see `judge_named`.
        BadJudge: see `judge_named`, or the judge is a model itself.
    """
    if name in MODELS:
        raise BadJudge(
            f"The judge {name!r} is a model, which would share the device with the measured "
            "model: run lm_eval with --log_samples and another judge, and label the answers "
            f"afterwards with `polyrefuse judge run RESULTS --judge {name}`."
        )
    return check_judge(name)


def revision_of(judge: Judge) -> str:
    """Return the revision of a judge, which separates its labels from those of other versions.

    A judge may have a `revision` of its own, such as that of its model. Otherwise it is the
    checksum of the rules and phrases for judges of this package, and the version of the package for
    other judges.
    """
    own: Any = None
    try:
        own = cast(Any, judge).revision
    except AttributeError:
        # A judge that does have a revision failed to compute it, for example to load its model.
        if inspect.getattr_static(judge, "revision", None) is not None:
            raise
    if isinstance(own, str):
        return own
    entry = _entry(judge.name)
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else f"rules {_rules_sha256()}"


@functools.cache
def _rules_sha256() -> str:
    """Return the checksum of all files in this folder, as 16 hex digits."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def package_of(name: str) -> str:
    """Return the package that a judge comes from, for messages.

    Args:
        name: the name of the judge. A name that is not registered is one of our judges with other
            weights or with the rule of a paper.

    Raises:
        BadJudge: two packages have a judge of this name.
    """
    return _package(_entry(name)) if name in names() else OURS


def described(error: Exception) -> str:
    """Write the class and message of an exception on one line, for messages."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _entries() -> list[EntryPoint]:
    own = [
        EntryPoint(name=name, value=value, group=GROUP) for name, value in (OWN | MODELS).items()
    ]
    return [*own, *entry_points(group=GROUP)]


def _entry(name: str) -> EntryPoint:
    entries = [entry for entry in _entries() if entry.name == name]
    if not entries:
        near = difflib.get_close_matches(name, names(), n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise UnknownJudge(f"There is no judge {name!r}{meant}: use one of {', '.join(names())}.")
    if len(entries) > 1:
        packages = " and ".join(_package(entry) for entry in entries)
        raise BadJudge(
            f"More than one package has a judge {name!r}: {packages}; uninstall one of them."
        )
    return entries[0]


def _package(entry: EntryPoint) -> str:
    # Our own entry points belong to no distribution that Python knows.
    return entry.dist.name if entry.dist else OURS


def _fault(judge: Any, name: str) -> str | None:
    """Describe why an object cannot be the judge of this name, as the end of a sentence."""
    if isinstance(judge, type):
        return "is a class, not a judge; name an instance of it"
    if not callable(getattr(judge, "judge", None)):
        return "has no method `judge`"
    if getattr(judge, "name", None) != name:
        return f"has the name {getattr(judge, 'name', None)!r}, not {name!r}"
    if getattr(judge, "measures", None) not in MEASURES:
        measures = getattr(judge, "measures", None)
        return f"measures {measures!r}, not one of {', '.join(MEASURES)}"
    if not isinstance(getattr(judge, "english_only", None), bool):
        return "does not say by `english_only`, True or False, whether it reads only English"
    return None
