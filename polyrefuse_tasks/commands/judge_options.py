"""The options of the sub-commands that run a judge: which weights, and where."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from polyrefuse_shared.options import count_option

EngineName = Literal["transformers", "vllm"]

JudgeModel = Annotated[
    str | None,
    typer.Option("--judge-model", help="Other weights of the same judge: a folder or a hub name."),
]
JudgeRevision = Annotated[
    str | None, typer.Option("--judge-revision", help="Revision of the judge's weights on the hub.")
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        help="What runs the judge's model; by default vLLM where it is installed and sees a GPU.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="The device of the judge's model, as cuda:0; for transformers."),
]
Dtype = Annotated[
    str,
    typer.Option("--dtype", help="The type of the judge's weights, as from_pretrained takes it."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="URL of the endpoint for --judge openai:MODEL; its key is taken from OPENAI_API_KEY.",
    ),
]
Concurrency = Annotated[
    int, count_option("--concurrency", help="Requests to the endpoint at the same time.")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.001,
        max=86400,
        help="Seconds for a whole answer of the endpoint, a day at most.",
    ),
]
MaxRequests = Annotated[
    int | None, count_option("--max-requests", help="Stop after so many requests to the endpoint.")
]
