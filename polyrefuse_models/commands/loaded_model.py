"""Load the model that a sub-command runs, and have it answer prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polyrefuse_shared.errors import UserError, first_line

if TYPE_CHECKING:
    from polyrefuse_models.wrappers.hf import BaselineHF
    from polyrefuse_tasks.data import Row


def load(
    model: str | None,
    batch_size: int | None,
    device: str | None,
    dtype: str,
    system: str,
    system_file: str | None,
    gguf_file: str | None,
) -> BaselineHF:
    """Load the model as lm-eval would, with a number of rows that suits the device.

    Raises:
        UserError: the model cannot be loaded; the message has the first line of the loader's error.
    """
    import torch

    from polyrefuse_models.bundled import ORGANISM
    from polyrefuse_models.chat_model import default_rows
    from polyrefuse_models.wrappers.hf import BaselineHF
    from polyrefuse_models.wrappers.known_arguments import parse_dtype

    parse_dtype("--dtype ", dtype)
    if batch_size is None:
        batch_size = default_rows(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        return BaselineHF(
            pretrained=model,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            system=system,
            system_file=system_file,
            gguf_file=gguf_file,
        )
    except UserError:
        raise
    except Exception as error:
        # torch, transformers, accelerate and safetensors each raise errors of their own.
        reason = first_line(error)
        raise UserError(f"--model {model or ORGANISM} cannot be loaded: {reason}") from error


def answers(lm: BaselineHF, rows: Sequence[Row], max_gen_toks: int) -> list[str]:
    """Generate greedy answers to the prompts of some rows, as in an evaluation.

    If a GPU's memory is too small for `lm.batch_size` rows, the model's batch size is halved and
    stays halved.

    Raises:
        UserError: the memory is too small even for half of the rows.
    """
    from lm_eval.api.instance import Instance

    from polyrefuse_models.device_memory import halved_where_full

    settings: dict[str, Any] = {"until": [], "do_sample": False, "max_gen_toks": max_gen_toks}
    requests = [
        Instance(
            "generate_until",
            doc={"id": row.id},
            arguments=(row.prompt, dict(settings)),
            idx=0,
            metadata=(f"transfer_{row.language}", index, 1),
        )
        for index, row in enumerate(rows)
    ]

    def generate(batch_size: int) -> list[str]:
        lm.batch_size_per_gpu = batch_size
        return lm.generate_until(requests, disable_tqdm=True)

    return halved_where_full(lm.batch_size, generate)


def reference_of(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the untouched model: `arguments` without the condition's own.

    Args:
        model: the name in lm-eval of the model under the condition.
        arguments: that model's arguments.

    Raises:
        UserError: an argument cannot be used.
    """
    wrapper, left = _wrapper(model), dict(arguments)
    pretrained = left.pop("pretrained", None)
    chat, system = left.pop("chat", "on"), left.pop("system", "template")
    own_text = left.pop("system_file", None)
    wrapper.__new__(wrapper).read_asked(
        pretrained, left, chat=chat, system=system, system_file=own_text
    )
    named = {"pretrained": pretrained, "chat": chat, "system": system}
    return {name: value for name, value in named.items() if name in arguments} | left


def load_condition(
    model: str, arguments: dict[str, Any], batch_size: int | None, device: str | None
) -> BaselineHF:
    """Load a model under its condition, as lm_eval does.

    Raises:
        UserError: this package has no such model for transformers, or the model cannot be loaded.
    """
    import torch

    from polyrefuse_models.chat_model import default_rows

    wrapper = _wrapper(model)
    if batch_size is None:
        batch_size = default_rows(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    usual = {"batch_size": batch_size, "device": device}
    try:
        return wrapper.create_from_arg_obj({**usual, **arguments})
    except UserError:
        raise
    except Exception as error:
        # torch, transformers, accelerate and safetensors each raise errors of their own.
        named = arguments.get("pretrained")
        raise UserError(f"pretrained={named} cannot be loaded: {first_line(error)}") from error


def _wrapper(model: str) -> type[BaselineHF]:
    """Return the class of one of this package's models that run on transformers.

    Raises:
        UserError: there is no such model.
    """
    from polyrefuse_models.registration import MODELS, model_class

    known = [name for name in MODELS if name.endswith("-hf")]
    if model not in known:
        raise UserError(f"--model {model} cannot be compared; use one of {', '.join(known)}.")
    return model_class(model)
