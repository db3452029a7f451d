"""What this package relies on inside lm-eval: a failure here says what an upgrade changed."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM, hash_args
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import simple_parse_args_string
from polyrefuse_leaderboard.reading import requests, results

from polyrefuse_models import registration
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared import lm_eval_internals as internals
from polyrefuse_shared.lm_eval_internals import (
    COUPLINGS,
    Coupling,
    LmEvalChanged,
    UnclearEvaluation,
    asked_of_lm_eval,
)
from polyrefuse_tasks.saved_results import documents
from polyrefuse_tasks.saved_results import samples as saved_samples
from polyrefuse_tasks.saved_results import tasks as saved_tasks
from tests.conftest import ROOT

TASK = "toyrefuse_harmful_en"


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    """Our tasks alone: reading lm-eval's own takes longer than a test."""
    return TaskManager(include_path=str(ROOT / "task_configs"), include_defaults=False)


# --- the table


@pytest.mark.parametrize("coupling", COUPLINGS, ids=lambda coupling: coupling.target)
def test_lm_eval_has_what_is_relied_on(coupling: Coupling) -> None:
    coupling.check()


def owner_of(target: str) -> tuple[Any, str]:
    """The module or class that something stands in, and its name there."""
    above, _, name = target.rpartition(".")
    return internals.resolve(above), name


REMOVABLE = [one for one in COUPLINGS if not one.target.endswith("__init__")]
"""Every class has an `__init__`."""


@pytest.mark.parametrize("coupling", REMOVABLE, ids=lambda coupling: coupling.target)
def test_a_thing_that_is_gone_is_named(coupling: Coupling, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = owner_of(coupling.target)
    if inspect.ismodule(owner) and "__getattr__" in vars(owner):  # lm_eval finds its own lazily
        monkeypatch.setattr(owner, "__getattr__", lambda name: missing(name), raising=True)
    if inspect.ismodule(vars(owner).get(name)):
        monkeypatch.setitem(sys.modules, coupling.target, None)
    for base in getattr(owner, "__mro__", (owner,)):
        if name in vars(base):
            monkeypatch.delattr(base, name)
    with pytest.raises(LmEvalChanged) as caught:
        coupling.check()
    assert str(caught.value) == f"{coupling.target} is gone; {coupling.ours}."


def missing(name: str) -> None:
    raise AttributeError(name)


FUNCTIONS = [one for one in COUPLINGS if one.checks and callable(internals.resolve(one.target))]


@pytest.mark.parametrize("coupling", FUNCTIONS, ids=lambda coupling: coupling.target)
def test_a_thing_that_is_otherwise_is_named(
    coupling: Coupling, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = owner_of(coupling.target)

    class Renamed:
        pass

    def renamed(one: Any, other: Any) -> None:
        """Takes other things."""

    is_class = isinstance(internals.resolve(coupling.target), type)
    monkeypatch.setattr(owner, name, Renamed if is_class else renamed, raising=False)
    with pytest.raises(LmEvalChanged) as caught:
        coupling.check()
    sentence = str(caught.value)
    assert sentence.startswith(f"{coupling.target} ")
    assert sentence.endswith(f"; {coupling.ours}.")
    assert re.search(r"takes \(.*\) now|has no|sets no|is called", sentence)


def test_what_such_a_sentence_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(self: Any, requests: Any, show_progress: bool = True) -> None:
        """A later lm-eval's, perhaps."""

    monkeypatch.setattr(HFLM, "_loglikelihood_tokens", without)
    (coupling,) = (one for one in COUPLINGS if one.target.endswith("._loglikelihood_tokens"))
    with pytest.raises(LmEvalChanged) as caught:
        coupling.check()
    assert str(caught.value) == (
        "lm_eval.models.huggingface.HFLM._loglikelihood_tokens takes (requests, show_progress) "
        "now, not (requests, disable_tqdm, override_bs); polyrefuse_models/wrappers/hf.py "
        "overrides it."
    )


def test_a_registry_without_registration_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.api.registry.model_registry", {"hf": HFLM})
    (coupling,) = (one for one in COUPLINGS if one.target.endswith(".model_registry"))
    with pytest.raises(LmEvalChanged, match="has no register any more; .*registration.py"):
        coupling.check()


@pytest.mark.parametrize("name", internals.OVERRIDES)
@pytest.mark.parametrize(
    "target", [one for name, one in registration.MODELS.items() if name.endswith("-hf")]
)
def test_our_methods_take_what_lm_eval_s_take(target: str, name: str) -> None:
    module, _, model = target.partition(":")
    ours = internals.parameters(getattr(getattr(importlib.import_module(module), model), name))
    assert ours == internals.OVERRIDES[name], f"{model}.{name} takes {ours}"


def test_every_import_of_lm_eval_in_the_package_is_in_the_table() -> None:
    """An import that the table does not know is a coupling that nobody checks."""
    known = [coupling.target for coupling in (*COUPLINGS, *internals.COUPLINGS_WITH_VLLM)]
    folders = ("polyrefuse_*", "leaderboard", "benchmarks")
    for folder in (one for pattern in folders for one in ROOT.glob(pattern)):
        for path in folder.rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                line = line.partition("#")[0].strip()
                if match := re.match(r"from (lm_eval[\w.]*) import (.+)$", line):
                    module, names = match.groups()
                    targets = [f"{module}.{name.strip(' (),')}" for name in names.split(",")]
                elif match := re.match(r"import (lm_eval[\w.]*)", line):
                    targets = [match[1]]
                else:
                    continue
                for target in targets:
                    assert any(one.startswith(target) for one in known), f"{path}: {target}"


def test_the_leaderboard_gets_its_names_without_lm_eval() -> None:
    code = (
        "import sys, polyrefuse_shared.lm_eval_internals as internals\n"
        "assert internals.asked_of_lm_eval('apply_chat_template') is None\n"
        "assert not {'lm_eval', 'torch', 'numpy', 'typer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what was asked


def evaluating(body: Callable[[], Any], module: str = "lm_eval.evaluator", **asked: Any) -> Any:
    """What `body` returns where lm-eval evaluates with some arguments."""
    scope: dict[str, Any] = {"__name__": module}
    exec(f"def evaluate({', '.join(['body', *asked])}): return body()", scope)
    return scope["evaluate"](body, **asked)


def template_asked_for() -> Any:
    return asked_of_lm_eval("apply_chat_template")


def test_outside_an_evaluation_nothing_was_asked() -> None:
    assert [asked_of_lm_eval(name) for name in internals.ASKED] == [None] * len(internals.ASKED)


@pytest.mark.parametrize("module", ["lm_eval.evaluator", "lm_eval._evaluator", "lm_eval.run.main"])
def test_what_was_asked_is_known_wherever_lm_eval_keeps_its_functions(module: str) -> None:
    assert evaluating(template_asked_for, module, apply_chat_template="named") == "named"


def test_functions_of_others_are_no_evaluation() -> None:
    assert evaluating(template_asked_for, "my_lm_eval.evaluator", apply_chat_template=True) is None


def test_an_evaluation_within_another_has_its_own_arguments() -> None:
    def inner() -> Any:
        return evaluating(template_asked_for, apply_chat_template=False)

    assert evaluating(inner, apply_chat_template=True) is False


def test_an_evaluation_does_not_inherit_what_only_the_outer_one_was_asked() -> None:
    scope: dict[str, Any] = {"__name__": "lm_eval.evaluator"}
    exec(
        "def simple_evaluate(gen_kwargs, body): return evaluate(body, True)\n"
        "def evaluate(body, lm): return body()",
        scope,
    )
    asked = scope["simple_evaluate"]({"top_k": 1}, lambda: asked_of_lm_eval("gen_kwargs"))
    assert asked == {"top_k": 1}

    def inner() -> Any:
        return scope["evaluate"](lambda: asked_of_lm_eval("gen_kwargs"), True)

    assert scope["simple_evaluate"]({"top_k": 1}, inner) is None


def test_another_thread_knows_what_was_asked() -> None:
    def in_a_pool() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(template_asked_for).result()

    assert evaluating(in_a_pool, apply_chat_template="named") == "named"
    assert in_a_pool() is None


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    """Starts an evaluation on a thread of its own, which waits until the test is over."""
    over = threading.Event()
    threads = []

    def started(**asked: Any) -> None:
        begun = threading.Event()

        def wait() -> None:
            begun.set()
            over.wait(60)

        thread = threading.Thread(target=evaluating, args=(wait,), kwargs=asked)
        thread.start()
        threads.append(thread)
        begun.wait(60)

    yield started
    over.set()
    for thread in threads:
        thread.join()


def test_evaluations_that_agree_are_one_answer(start: Callable[..., None]) -> None:
    start(apply_chat_template=True)
    start(apply_chat_template=True)
    assert template_asked_for() is True


def test_evaluations_that_disagree_are_no_answer(start: Callable[..., None]) -> None:
    start(apply_chat_template=True)
    start(apply_chat_template=False)
    with pytest.raises(UnclearEvaluation, match="with different apply_chat_template"):
        template_asked_for()
    assert evaluating(template_asked_for, apply_chat_template="own") == "own"


@pytest.mark.parametrize("name", internals.ASKED)
def test_an_argument_that_lm_eval_has_no_longer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, Any] = {"__name__": "lm_eval.evaluator"}
    exec("def evaluate(model, template): return model()", scope)
    for entry in internals.ENTRIES:
        monkeypatch.setattr(lm_eval, entry, scope["evaluate"], raising=False)
    with pytest.raises(LmEvalChanged, match=f"have no {name} any more.*use lm-eval 0.4.13"):
        asked_of_lm_eval(name)
    with pytest.raises(LmEvalChanged):
        scope["evaluate"](lambda: asked_of_lm_eval(name), "named")


def test_functions_that_lm_eval_has_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval, "__getattr__", missing)
    for entry in internals.ENTRIES:
        monkeypatch.delattr(lm_eval, entry, raising=False)
    with pytest.raises(LmEvalChanged):
        template_asked_for()


def test_functions_that_others_have_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a tracing library does, without saying what it wrapped."""
    evaluate = lm_eval.evaluate
    monkeypatch.setattr(
        lm_eval, "evaluate", lambda *args, **kwargs: evaluate(*args, **kwargs), raising=False
    )
    assert template_asked_for() is None
    assert evaluating(template_asked_for, apply_chat_template=True) is True


def test_every_name_that_is_asked_for_is_checked() -> None:
    """`ASKED` is what the table checks; whatever the package asks for has to be in it."""
    names = set()
    for path in ROOT.glob("polyrefuse_*/**/*.py"):
        text = path.read_text(encoding="utf-8")
        names |= set(re.findall(r"asked_of_lm_eval\(\s*\"(\w+)\"", text))
    assert names == set(internals.ASKED)


class Pooled(BaselineHF):
    """A model that answers on a thread of its own, as one behind a pool or a server does."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(super().generate_until, requests, disable_tqdm).result()


def test_on_another_thread_no_prompt_gets_the_template_twice(
    chat_model: Path, manager: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    generate = HFLM.generate_until

    def recorded(self: Any, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        prompts.extend(request.args[0] for request in requests)
        return generate(self, requests, disable_tqdm)

    monkeypatch.setattr(HFLM, "generate_until", recorded)
    lm = Pooled(pretrained=str(chat_model), device="cpu", batch_size=4)
    lm_eval.simple_evaluate(
        model=lm, tasks=[TASK], task_manager=manager, limit=4, apply_chat_template=True,
        gen_kwargs="max_gen_toks=2", bootstrap_iters=0,
    )  # fmt: skip
    assert len(set(prompts)) == 4
    assert {prompt.count("<|user|>") for prompt in prompts} == {1}


# --- what a model is handed


def test_models_ask_a_cache_hook_for_nothing_but_to_add_answers() -> None:
    """Ours stands in for it and is no subclass."""
    asked = set()
    for path in Path(lm_eval.__file__).parent.rglob("*.py"):
        asked |= set(re.findall(r"\bcache_hook\.(\w+)", path.read_text(encoding="utf-8")))
    assert asked == {"add_partial"}, "lm-eval's models ask their cache hook for more now"


def test_any_object_will_do_as_a_cache_hook(chat_model: Path) -> None:
    kept: list[tuple[str, Any, Any]] = []
    hook = SimpleNamespace(dbdict=None, add_partial=lambda *what: kept.append(what))
    lm = HFLM(pretrained=str(chat_model), device="cpu")
    lm.set_cache_hook(hook)
    settings = {"until": [], "max_gen_toks": 1}
    generate = Instance("generate_until", {}, ("Hi", settings), 0, ("quend", 0, 1))
    likely = Instance("loglikelihood", {}, ("Hi", " there"), 0, ("quend", 0, 1))
    (answer,) = lm.generate_until([generate], disable_tqdm=True)
    (score,) = lm.loglikelihood([likely], disable_tqdm=True)
    assert kept == [
        ("generate_until", ("Hi", settings), answer),
        ("loglikelihood", ("Hi", " there"), score),
    ]


def test_a_response_cache_is_a_dictionary_by_the_hash_of_method_and_request(
    chat_model: Path, tmp_path: Path
) -> None:
    lm = HFLM(pretrained=str(chat_model), device="cpu")
    caching = CachingLM(lm, str(tmp_path / "cache.db"))
    assert lm.cache_hook.dbdict is caching.dbdict
    lm.cache_hook.add_partial("generate_until", ("Hi", {}), "Ho")
    assert caching.dbdict[hash_args("generate_until", ("Hi", {}))] == "Ho"
    assert {"get", "keys", "commit", "filename"} <= set(dir(caching.dbdict))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_gen_toks": 9}, {"do_sample": False, "until": [], "max_gen_toks": 9}),
        ({"max_new_tokens": 3, "max_gen_toks": 5, "max_tokens": 7}, {"max_gen_toks": 5}),
        ({"max_completion_tokens": 7, "until": "."}, {"max_gen_toks": 7, "until": ["."]}),
        ({"max_tokens": 7, "temperature": 0.5}, {"do_sample": True, "temperature": 0.5}),
        ({"max_tokens": 7, "do_sample": False, "temperature": 0.5}, {"temperature": 0.0}),
    ],
)
def test_settings_are_normalised_as_the_leaderboard_does(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    normal = normalize_gen_kwargs(given)
    assert expected.items() <= normal.items()
    assert requests.effective(given) == requests.effective(dict(normal))


def test_the_word_none_is_none() -> None:
    arguments = simple_parse_args_string("system=none,direction=auto")
    assert arguments == {"system": None, "direction": "auto"}


@pytest.mark.parametrize("level", ["ERROR", "INFO"])
def test_the_verbosity_of_lm_eval_is_ours(level: str) -> None:
    code = (
        f"from lm_eval.utils import setup_logging; setup_logging({level!r})\n"
        "from polyrefuse_shared.log import logger; logger.info('Hi')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LMEVAL_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, capture_output=True, env=environment
    )
    assert ("Hi" in done.stdout + done.stderr) is (level == "INFO")


# --- what it writes


class Recording(dict[str, Any]):
    """A JSON object that notes which of its entries are asked for."""

    asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)


@pytest.fixture(scope="module")
def written(
    chat_model: Path, manager: TaskManager, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results file of a run of lm-eval's own `hf`, its samples beside it."""
    folder = tmp_path_factory.mktemp("results")
    tracker = EvaluationTracker(output_path=str(folder))
    outcome = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(chat_model), device="cpu", batch_size=4),
        tasks=["toyrefuse"], task_manager=manager, limit=2, gen_kwargs="max_gen_toks=2",
        evaluation_tracker=tracker, bootstrap_iters=0,
    )  # fmt: skip
    logged = outcome.pop("samples")
    tracker.save_results_aggregated(results=outcome, samples=logged)
    for task, lines in logged.items():
        tracker.save_results_samples(task_name=task, samples=lines)
    (path,) = folder.rglob("results_*.json")
    return path


def test_names_of_files(written: Path) -> None:
    date = internals.date_of(written.name)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d-]+\.\d+", date)
    assert internals.is_results_file(written.name)
    assert not internals.is_samples_file(written.name)
    beside = [path.name for path in written.parent.glob("*.jsonl")]
    assert internals.samples_file(TASK, date) in beside
    for name in beside:
        assert internals.is_samples_file(name)
        assert not internals.is_results_file(name)
        assert internals.date_of(name) == date


def test_a_results_file_of_a_name_of_one_s_own(written: Path, tmp_path: Path) -> None:
    tracker = EvaluationTracker(output_path=str(tmp_path / "mine.json"))
    tracker.save_results_aggregated(results=json.loads(written.read_text()), samples={})
    (name,) = (path.name for path in tmp_path.rglob("*.json"))
    assert name.startswith("mine_")
    assert internals.is_results_file(name)
    assert internals.date_of(name) in name


def test_keys_of_a_results_file(written: Path) -> None:
    document = json.loads(written.read_text())
    places = {
        "": document,
        "results": document["results"][TASK],
        "configs": document["configs"][TASK],
        "n-samples": document["n-samples"][TASK],
        "config": document["config"],
    }
    for place, keys in internals.RESULTS.items():
        lost = set(keys) - places[place].keys()
        assert not lost, f"results files have no {lost} in {place or 'their top'} any more"
    assert internals.metric_key("asr") in document["results"][TASK], "metrics have other names now"
    assert "toyrefuse" in document["group_subtasks"]
    assert internals.metric_key("asr") in document["groups"]["toyrefuse-harmful"]


def test_keys_of_samples(written: Path) -> None:
    path = written.with_name(internals.samples_file(TASK, internals.date_of(written.name)))
    for line in path.read_text().splitlines():
        sample = json.loads(line)
        lost = set(internals.SAMPLE) - sample.keys()
        assert not lost, f"samples have no {lost} any more"
        first, prompt, settings = internals.ARGUMENTS
        assert sample["doc"]["prompt"] in sample["arguments"][first][prompt]
        assert sample["arguments"][first][settings]["max_gen_toks"] == 2
        assert sample["filter"] == internals.DEFAULT_FILTER
        assert "label" in sample["doc"], "lm-eval logs rows as they were before they were scored"
        assert isinstance(sample["filtered_resps"][0], str)


def test_whatever_is_read_of_lm_eval_s_is_listed(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that reading asks for, and that lm-eval writes, is in the lists above."""
    theirs: set[str] = set()

    def record(text: bytes, where: str) -> dict[str, Any]:
        document = json.loads(text, object_hook=Recording)
        theirs.update(document)
        for name in ("results", "configs", "n-samples"):
            theirs.update(document.get(name, {}).get(TASK, ()))
        theirs.update(document.get("config", ()), document.get("arguments", ()))
        return document

    for module in (documents, saved_tasks, saved_samples):
        monkeypatch.setattr(module, "parse", record)
    Recording.asked = set()
    results.read([written], include_samples=True)
    assert Recording.asked >= {"configs", "doc", internals.metric_key("asr")}
    listed = {key for keys in internals.RESULTS.values() for key in keys}
    listed |= {*internals.SAMPLE, *internals.ARGUMENTS}
    rates = {key for key in theirs if key.endswith(f",{internals.DEFAULT_FILTER}")}
    tasks = {key for key in theirs if key.startswith("toyrefuse")}
    unlisted = (Recording.asked & theirs) - listed - rates - tasks
    assert not unlisted, f"reading asks for {unlisted}; list them in lm_eval_internals"


def test_a_run_without_judging(chat_model: Path, manager: TaskManager) -> None:
    outcome = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(chat_model), device="cpu"), tasks=[TASK], task_manager=manager,
        limit=1, gen_kwargs="max_gen_toks=1", predict_only=True, bootstrap_iters=0,
    )  # fmt: skip
    assert internals.metric_key(internals.UNJUDGED) in outcome["results"][TASK]
