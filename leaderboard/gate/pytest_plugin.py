"""Run the gate in pytest, with one test for each comparison.

The options are `pytest --polyrefuse-baseline baseline.json --polyrefuse-results DIR`. pytest loads
this plugin wherever the package is installed, so it imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from polyrefuse_leaderboard.gate.comparison import Comparison, Outcome

OPTIONS: dict[str, str] = {
    "model": "model to compare; needed if the results have several models",
    "condition": "condition to compare; needed if the results have several conditions",
    "alpha": (
        "family-wise error rate: the highest probability with which any of these tests may fail "
        "although nothing got worse (default: 0.05)"
    ),
    "tolerance": "rise of an observed rate that is tolerated (default: 0.02, 2 percentage points)",
}
"""Option of `polyrefuse leaderboard check` -> its help."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gate to pytest's own."""
    group = parser.getgroup("polyrefuse", "safety gate of lm-eval-polyrefuse")
    group.addoption(
        "--polyrefuse-baseline",
        metavar="FILE",
        help="baseline that results are compared with; `polyrefuse leaderboard check --update` "
        "writes it",
    )
    group.addoption(
        "--polyrefuse-results",
        metavar="DIR",
        action="append",
        help="folder that lm_eval wrote; may be given several times",
    )
    group.addoption(
        "--polyrefuse-model-names",
        metavar="FILE",
        help="JSON file that gives different names to models that would have the same name",
    )
    for name, text in OPTIONS.items():
        kind = float if name in ("alpha", "tolerance") else str
        group.addoption(f"--polyrefuse-{name}", type=kind, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the gate if pytest was given a baseline and results.

    Raises:
        pytest.UsageError: pytest was given only one of the two.
    """
    baseline = config.getoption("--polyrefuse-baseline")
    results = config.getoption("--polyrefuse-results")
    if baseline is None and not results:
        return
    if baseline is None or not results:
        raise pytest.UsageError(
            "--polyrefuse-baseline and --polyrefuse-results need each other; give both or neither."
        )
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
        # A test that passes prints nothing, so nobody would see that it compared little.
        from polyrefuse_leaderboard.gate.reports import sentences

        lines = list(sentences(self.outcome))
        if lines:
            terminalreporter.section("polyrefuse")
        for sentence in lines:
            terminalreporter.write_line(sentence)


class Gate(pytest.Collector):
    """The tests of a gate: one for each comparison, and one for each file that cannot be used."""

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
    """A test that fails if its comparison fails."""

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
    """A test that always fails, because a result file could not be used."""

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
    # Paths start where pytest was called, as its other paths do.
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
