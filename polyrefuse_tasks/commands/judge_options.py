"""The options of the sub-commands that run a judge: its weights, and where they run."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from polyrefuse_shared.options import count_option

EngineName = Literal["transformers", "vllm"]

JudgeModel = Annotated[
    str | None,
    typer.Option(
        "--judge-model",
        help="Other weights of the same judge: a folder, or a name on the Hugging Face hub. "
        "Default: the weights that docs/how-to/model-judges.md lists.",
    ),
]
JudgeRevision = Annotated[
    str | None,
    typer.Option(
        "--judge-revision",
        help="Revision of the judge's weights on the hub: a commit, branch or tag. Default: main.",
    ),
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        help="Library that runs the judge's model. Default: vllm where it is installed and sees a "
        "GPU, otherwise transformers.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where transformers runs the judge's model, for example cpu or cuda:0. Default: a GPU "
        "where there is one, otherwise cpu.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Data type of the judge's weights, for example bfloat16. auto takes the type of the "
        "checkpoint.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="URL of the endpoint for --judge openai:MODEL. Its key is read from OPENAI_API_KEY.",
    ),
]
Concurrency = Annotated[
    int,
    count_option("--concurrency", help="Number of requests to the endpoint at the same time."),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.001,
        max=86400,
        help="Seconds that the endpoint may take for a whole answer, at most 86400 (a day).",
    ),
]
MaxRequests = Annotated[
    int | None,
    count_option(
        "--max-requests",
        help="Stop after this many requests to the endpoint, repeated ones included. Default: no "
        "limit.",
    ),
]
