"""What the sub-commands that run a model share: their options, and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from polyrefuse_models.wrappers.hf import BaselineHF

AnyModel = Annotated[str | None, typer.Option("--model", help="The bundled organism by default.")]
AnyDataset = Annotated[
    str | None, typer.Option("--dataset", help="toyrefuse for the organism, else polyrefuse.")
]
Device = Annotated[str | None, typer.Option("--device", help="As lm-eval's.")]
Dtype = Annotated[str, typer.Option("--dtype", help="As lm-eval's.")]
System = Annotated[
    str,
    typer.Option(
        "--system",
        help="template: with the system text that the chat template inserts by itself; none: "
        "without one, as in arXiv 2505.17306.",
    ),
]
SystemFile = Annotated[
    str | None, typer.Option("--system-file", help="A file with the text of the system turn.")
]


def codes(option: str, given: str) -> list[str]:
    """Languages with commas between, each once.

    Raises:
        UserError: there is none.
    """
    found = list(dict.fromkeys(code.strip() for code in given.split(",") if code.strip()))
    if not found:
        raise UserError(f"{option} {given!r} names no language; give codes such as en,de.")
    return found


def load(
    model: str | None,
    batch_size: int,
    device: str | None,
    dtype: str,
    system: str,
    system_file: str | None,
) -> BaselineHF:
    """The model as lm-eval would load it.

    Raises:
        UserError: it cannot be loaded; the message has the loader's first line.
    """
    import torch

    from polyrefuse_models.bundled import ORGANISM
    from polyrefuse_models.wrappers.hf import BaselineHF

    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise UserError(f"--dtype {dtype} is not a type of torch's; use auto, float32 or bfloat16.")
    try:
        return BaselineHF(
            pretrained=model,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            system=system,
            system_file=system_file,
        )
    except UserError:
        raise
    except Exception as error:
        # Each of torch, transformers, accelerate and safetensors raises its own.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"--model {model or ORGANISM} cannot be loaded: {reason}") from error
