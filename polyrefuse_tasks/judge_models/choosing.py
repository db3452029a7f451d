"""Choose the judge that a command line names, with its weights or its endpoint."""

from __future__ import annotations

from dataclasses import replace

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judge_engines.endpoint import Asking, Endpoint
from polyrefuse_tasks.judge_engines.engine import Loading
from polyrefuse_tasks.judge_models.endpoint_judge import PREFIX, EndpointJudge
from polyrefuse_tasks.judge_models.model_judge import ModelJudge, ScoreJudge
from polyrefuse_tasks.judge_models.rules_of_papers import ByLength, Protocol2505_11835
from polyrefuse_tasks.judges import Judge, judge_named
from polyrefuse_tasks.judges.registry import UnknownJudge

PROTOCOL_JUDGE = "llamaguard2"
"""The judge whose verdicts arXiv 2505.11835 scores; `--judge-model` may name other weights."""


class NotForThisJudge(UserError):
    """An option does not apply to the judge."""


def choose(
    name: str,
    *,
    model: str | None = None,
    revision: str | None = None,
    engine: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    batch_size: int,
    base_url: str | None = None,
    concurrency: int,
    timeout: float,
    max_requests: int | None = None,
    length_rule: str | None = None,
    protocol: str | None = None,
) -> Judge:
    """Return the judge with this name, with the rule of a paper if one is named.

    Args:
        name: a name of `judges.names`, or `openai:MODEL`.
        model, revision, engine, device, dtype, batch_size: see `Loading`, for judges that are
            models.
        base_url, concurrency, timeout, max_requests: see `Asking`, for `openai:MODEL`.
        length_rule: a name of `LENGTH_RULES`.
        protocol: `2505.11835`, which has a length rule of its own.

    Raises:
        UnknownJudge: see `judge_named`.
        BadJudge: see `judge_named`, or the judge does not measure harm, which a rule needs.
        NotForThisJudge: an option does not apply to the judge, or a base URL is missing.
        CannotJudge: the base URL is not an address.
    """
    for option, given in (("--judge", name), ("--judge-model", model or "")):
        if not given.isprintable():
            raise NotForThisJudge(
                f"{option} is {given!r}, which has characters that cannot be printed: remove them."
            )
    if protocol and name != PROTOCOL_JUDGE:
        raise NotForThisJudge(
            f"--protocol {protocol} needs Llama Guard 2, which the paper used: give --judge "
            f"{PROTOCOL_JUDGE}, or leave out --protocol."
        )
    if length_rule and protocol:
        raise NotForThisJudge("--protocol has a length rule of its own: leave out --length-rule.")
    judge = _chosen(
        name,
        Loading(model or "", revision, engine, device, dtype, batch_size),
        base_url,
        concurrency,
        timeout,
        max_requests,
    )
    if protocol:
        return Protocol2505_11835(judge)
    return ByLength(judge, length_rule) if length_rule else judge


def _chosen(
    name: str,
    loading: Loading,
    base_url: str | None,
    concurrency: int,
    timeout: float,
    max_requests: int | None,
) -> Judge:
    runs_here = replace(loading, batch_size=1) != Loading("", batch_size=1)
    if name.startswith(PREFIX):
        if runs_here:
            raise NotForThisJudge(
                f"--judge {name} runs behind an endpoint: leave out --judge-model, "
                "--judge-revision, --engine, --device and --dtype."
            )
        if base_url is None or name == PREFIX:
            raise NotForThisJudge(
                f"--judge {name} asks a model behind an endpoint: name both, for example --judge "
                "openai:MODEL --base-url http://localhost:8000/v1."
            )
        asking = Asking(
            name.removeprefix(PREFIX),
            base_url,
            concurrency=concurrency,
            timeout=timeout,
            max_requests=max_requests,
        )
        return EndpointJudge(Endpoint(asking))
    for option, value in (("--base-url", base_url), ("--max-requests", max_requests)):
        if value is not None:
            raise NotForThisJudge(
                f"{option} applies to --judge openai:MODEL and not to {name}: leave it out."
            )
    try:
        judge = judge_named(name)
    except UnknownJudge as error:
        raise UnknownJudge(f"{str(error).removesuffix('.')}, or {PREFIX}MODEL.") from None
    if isinstance(judge, ModelJudge | ScoreJudge):
        return judge.on(replace(loading, model=loading.model or judge.format.card.model))
    if runs_here:
        raise NotForThisJudge(
            f"The judge {name} has no model: leave out --judge-model, --judge-revision, --engine, "
            "--device and --dtype."
        )
    return judge
