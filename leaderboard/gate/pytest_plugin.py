"""`pytest --polyrefuse-baseline baseline.json --polyrefuse-results DIR`: one test a comparison.

pytest loads this wherever the package is installed: it imports nothing until it is asked to.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from polyrefuse_leaderboard.gate.comparison import Comparison, Outcome

OPTIONS: dict[str, str] = {
    "model": "whose results, where there are several models",
    "condition": "under which condition, where there are several",
    "alpha": (
        "family-wise error rate: chance that any of these tests fails where nothing got worse, at "
        "most (0.05)"
    ),
    "tolerance": "how much worse a rate may be observed (0.02: two points of 100)",
}
"""Option of `polyrefuse leaderboard check` -> its help."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gate to pytest's own."""
    group = parser.getgroup("polyrefuse", "safety gate of lm-eval-polyrefuse")
    group.addoption(
        "--polyrefuse-baseline",
        metavar="FILE",
        help="what results are held to; `polyrefuse leaderboard check --update` writes it",
    )
    group.addoption(
        "--polyrefuse-results",
        metavar="DIR",
        action="append",
        help="folder that lm_eval wrote into; may be given several times",
    )
    group.addoption(
        "--polyrefuse-model-names",
        metavar="FILE",
        help="what models are called that would have the same name; a JSON object",
    )
    for name, text in OPTIONS.items():
        kind = float if name in ("alpha", "tolerance") else str
        group.addoption(f"--polyrefuse-{name}", type=kind, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the gate where pytest was given a baseline and results."""
    baseline = config.getoption("--polyrefuse-baseline")
    results = config.getoption("--polyrefuse-results")
    if baseline is None and not results:
        return
    if baseline is None or not results:
        raise pytest.UsageError("--polyrefuse-baseline and --polyrefuse-results need each other.")
    config.pluginmanager.register(_Collection(_outcome(config, baseline, results)))


class _Collection:
    """Collects the gate's tests after those of the session's files, and prints its notes."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            gate = Gate.from_parent(
                collector, name="polyrefuse", nodeid="polyrefuse", outcome=self.outcome
            )
            report.result = [*(report.result or []), gate]
        return report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        # A test that passes says nothing, and that it compared little would not be seen.
        from polyrefuse_leaderboard.gate.reports import sentences

        lines = list(sentences(self.outcome))
        if lines:
            terminalreporter.section("polyrefuse")
        for sentence in lines:
            terminalreporter.write_line(sentence)


class Gate(pytest.Collector):
    """The tests of a gate: one a comparison, and one for each file that could not be used."""

    def __init__(self, *, outcome: Outcome, **rest: Any) -> None:
        super().__init__(**rest)
        self.outcome = outcome

    def collect(self) -> Iterator[pytest.Item]:
        from polyrefuse_shared.printing import clean

        for comparison in self.outcome.comparisons:
            before = comparison.before
            name = clean(f"{before.dataset}[{before.language}-{before.metric}-{before.judge}]")
            yield ComparisonTest.from_parent(self, name=name, comparison=comparison)
        for number, problem in enumerate(self.outcome.problems, 1):
            yield ProblemTest.from_parent(self, name=f"results[problem {number}]", problem=problem)


class ComparisonTest(pytest.Item):
    """Fails where the gate's comparison does."""

    def __init__(self, *, comparison: Comparison, **rest: Any) -> None:
        super().__init__(**rest)
        self.comparison = comparison

    def runtest(self) -> None:
        from polyrefuse_leaderboard.gate.reports import described

        if self.comparison.failures:
            pytest.fail(described(self.comparison), pytrace=False)

    def reportinfo(self) -> tuple[Any, None, str]:
        return self.path, None, self.name


class ProblemTest(pytest.Item):
    """Fails: a result file could not be used."""

    def __init__(self, *, problem: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.problem = problem

    def runtest(self) -> None:
        from polyrefuse_shared.printing import clean

        pytest.fail(clean(self.problem), pytrace=False)

    def reportinfo(self) -> tuple[Any, None, str]:
        return self.path, None, self.name


def _outcome(config: pytest.Config, baseline: str, results: list[str]) -> Outcome:
    from pathlib import Path

    from polyrefuse_leaderboard.gate.baseline import read_baseline
    from polyrefuse_leaderboard.gate.comparison import check
    from polyrefuse_leaderboard.reading.model_names import read_names
    from polyrefuse_leaderboard.reading.results import read

    from polyrefuse_shared.errors import UserError
    from polyrefuse_shared.printing import clean

    named = config.getoption("--polyrefuse-model-names")
    given = {name: config.getoption(f"--polyrefuse-{name}") for name in OPTIONS}
    chosen = {name: value for name, value in given.items() if value is not None}
    # Relative to where pytest was called, as its other paths are.
    folder = config.invocation_params.dir
    try:
        return check(
            read_baseline(folder / Path(baseline)),
            read(
                [folder / Path(path) for path in results],
                names=read_names(folder / Path(named)) if named else {},
            ),
            **chosen,
        )
    except UserError as error:
        raise pytest.UsageError(clean(str(error))) from None
