"""Count a model's work in an evaluation, from the requests that lm_eval itself makes.

`lm_eval` runs the tasks with a model that notes its requests and answers nothing. Few-shot
examples, repeats, limits and generation settings are therefore lm-eval's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from polyrefuse_models.workload import Part, Workload
from polyrefuse_models.wrappers.generation_settings import requested
from polyrefuse_shared.task_folder import task_folder
from polyrefuse_tasks.configs import FAMILIES
from polyrefuse_tasks.harness import KEPT

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.config.evaluate_config import EvaluatorConfig
    from lm_eval.tasks import TaskManager

    from polyrefuse_models.wrappers.hf import BaselineHF

OWN = frozenset(task for family in FAMILIES for task in family.tasks)
"""The tasks of this package."""

AT_ONCE = 256
"""The number of texts that are tokenised at a time."""


class Noting(LM):
    """A model for lm-eval that notes its requests and answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Instance] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.noted += requests
        return [""] * len(requests)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        self.noted += requests
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        self.noted += requests
        return [0.0] * len(requests)


@dataclass(frozen=True)
class Noted:
    """The requests of an evaluation.

    Attributes:
        requests: a request for each answer.
        seconds: the time that lm-eval took without a model, including the search for its tasks.
    """

    requests: list[Instance]
    seconds: float


@dataclass
class Evaluations:
    """Notes the requests of evaluations. Equal evaluations are run only once.

    Args:
        timed: whether lm-eval looks for all of its tasks, as in a run. Otherwise it looks only for
            this package's tasks if no others are asked for, which is much faster.
    """

    timed: bool
    _manager: TaskManager | None = None
    _indexing: float = 0.0
    _noted: dict[str, Noted] = field(default_factory=dict)

    def note(self, command: Sequence[str]) -> Noted:
        """Note the requests of an `lm_eval` command.

        Args:
            command: the command as a user would type it, in words.

        Raises:
            Exception: whatever lm-eval, its tasks and their data raise.
        """
        import lm_eval

        asked = parse(command)
        key = repr((asked.tasks, asked.limit, asked.num_fewshot, asked.gen_kwargs, asked.seed))
        if key not in self._noted:
            noting = Noting()
            tasks = self._find(asked)
            begun = time.monotonic()
            lm_eval.simple_evaluate(
                model=noting,
                tasks=tasks,
                num_fewshot=asked.num_fewshot,
                limit=asked.limit,
                gen_kwargs=asked.gen_kwargs,
                task_manager=self._manager,
                bootstrap_iters=0,
                log_samples=False,
                random_seed=asked.seed[0],
                numpy_random_seed=asked.seed[1],
                torch_random_seed=asked.seed[2],
                fewshot_random_seed=asked.seed[3],
            )
            seconds = self._indexing + time.monotonic() - begun
            self._noted[key] = Noted(noting.noted, seconds)
        return self._noted[key]

    def _find(self, asked: EvaluatorConfig) -> list[Any]:
        """Find the tasks as lm-eval does, but search for all of its tasks only once."""
        from lm_eval.tasks import TaskManager

        named = [name for part in asked.tasks for name in part.split(",")]
        if not self.timed and OWN.issuperset(named):
            self._manager = TaskManager(include_path=str(task_folder()), include_defaults=False)
            return self._manager.match_tasks(named)
        of_files = any(name.endswith((".yaml", ".yml")) for name in named)
        if self._manager is None or not self._indexing or of_files:
            begun = time.monotonic()
            self._manager = asked.process_tasks(asked.metadata)
            self._indexing = time.monotonic() - begun
            return asked.tasks
        return self._manager.match_tasks(named)


def parse(command: Sequence[str]) -> EvaluatorConfig:
    """Parse an `lm_eval` command's arguments by lm-eval's own parser, with its defaults.

    Raises:
        SystemExit: the parser does not accept the arguments.
    """
    from lm_eval._cli.harness import HarnessCLI
    from lm_eval.config.evaluate_config import EvaluatorConfig

    before, sys.argv = sys.argv, ["lm_eval", "run", *command[1:]]
    try:
        return EvaluatorConfig.from_cli(HarnessCLI().parse_args())
    finally:
        sys.argv = before


def of_evaluation(lm: BaselineHF, requests: Sequence[Instance], judged: bool) -> Workload:
    """Count the work of some requests.

    Args:
        lm: the model, with or without weights, with its safety prompt.
        requests: the requests. A request for several answers is there as often.
        judged: whether a judge labels the answers during the evaluation.
    """
    counts = _Tokens(lm)
    parts: dict[tuple[str, int], list[Instance]] = {}
    for request in requests:
        limit = 0
        if request.request_type == "generate_until":
            limit = requested(request.args[1], lm.max_gen_toks)["max_gen_toks"]
        parts.setdefault((request.request_type, limit), []).append(request)
    made = [
        Part(
            "answers" if limit else "log-likelihoods",
            len(asked),
            sum(counts.of(asked)),
            answers=len(asked) if limit else 0,
            tokens_each=limit,
        )
        for (_, limit), asked in parts.items()
    ]
    each: dict[tuple[str | None, int | None], int] = {}
    for request in requests:
        of = request.task_name, request.doc_id
        each[of] = each.get(of, 0) + 1
    labelled = sum(min(answers, KEPT) if answers > 1 else 1 for answers in each.values())
    return Workload(len(each), tuple(made), judged=labelled if judged else 0)


def texts(lm: BaselineHF, requests: Sequence[Instance]) -> list[str]:
    """Return the texts that the model reads for requests for an answer."""
    return [lm.prompting.read(request.args[0]) for request in requests]


class _Tokens:
    """Counts the tokens of requests. Each text is tokenised only once."""

    def __init__(self, lm: BaselineHF) -> None:
        self._lm = lm
        self._known: dict[str, int] = {}

    def of(self, requests: Sequence[Instance]) -> list[int]:
        lm = self._lm
        if requests[0].request_type == "generate_until":
            return self._lengths(texts(lm, requests))
        if requests[0].request_type == "loglikelihood_rolling":
            return self._lengths([request.args[0] for request in requests])
        # The text in front of a context is counted separately, because it is added as tokens.
        some_token = [0]
        front = lm.prompting.behind(some_token, None)[: -len(some_token)]
        read = self._lengths(["".join(request.args) for request in requests])
        return [length + len(front) for length in read]

    def _lengths(self, read: list[str]) -> list[int]:
        new = [text for text in dict.fromkeys(read) if text not in self._known]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            _, mask = self._lm.tok_batch_encode(some)
            self._known.update(zip(some, mask.sum(dim=-1).tolist(), strict=True))
        return [self._known[text] for text in read]
