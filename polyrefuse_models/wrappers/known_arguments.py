"""Find out which arguments lm-eval's models take, from the code that takes them.

No model is loaded for this. A model reads its own arguments before it loads anything, and passes
the others on: to lm-eval's own class, and from there to `from_pretrained` or to vLLM's engine. None
of these has a list of its arguments.
"""

from __future__ import annotations

import functools
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_models import bundled
from polyrefuse_models.vllm_engine.arguments import refuse_unusable
from polyrefuse_models.wrappers.batching import parse_batching
from polyrefuse_models.wrappers.direction_arguments import parse_seed
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import parse_json

if TYPE_CHECKING:
    import torch


class UnknownArgument(UserError):
    """An argument that a model does not take.

    Attributes:
        argument: the name of the argument.
        known: the arguments that the model takes.
    """

    def __init__(self, argument: str, known: frozenset[str]) -> None:
        super().__init__(f"There is no argument {argument}; leave it out.")
        self.argument = argument
        self.known = known


def parse_arguments(option: str, given: str) -> dict[str, Any]:
    """Parse a model's arguments as lm_eval does: `name=value,...`, or a JSON object.

    Args:
        option: the name of the option, for messages.
        given: the value of the option.

    Raises:
        UserError: the value has neither form.
    """
    from lm_eval.utils import simple_parse_args_string

    try:
        if not given.lstrip().startswith("{"):
            return dict(simple_parse_args_string(given))
        parsed = parse_json(given.encode())
    except (ValueError, IndexError):
        parsed = None
    if not isinstance(parsed, dict):
        raise UserError(
            f"{option} {given!r} cannot be read; give arguments as lm_eval takes them, such as "
            "pretrained=NAME,direction=FOLDER."
        )
    return parsed


def try_arguments(wrapper: Any, arguments: Mapping[str, Any], *, vllm: bool) -> None:
    """Read a model's arguments as the model would before it loads anything.

    Args:
        wrapper: a class of `wrappers.hf`; the classes of `wrappers.vllm` read the same arguments.
        arguments: the arguments, with `pretrained`. The direction and the safety prompt that they
            name have to exist.
        vllm: whether vLLM runs the model. vLLM's own arguments are known only if it is installed.

    Raises:
        UnknownArgument: nothing takes one of the arguments.
        UserError: the value of an argument cannot be used.
    """
    left = _Looked(arguments)
    pretrained = left.pop("pretrained")
    own = {
        name: left.pop(name, default)
        for name, default in (("chat", "on"), ("system", "template"), ("system_file", None))
    }
    parse_seed(left.get("direction_seed", 0))
    wrapper.__new__(wrapper).read_asked(pretrained, left, **own)
    if vllm:
        refuse_unusable(left)
    else:
        parse_batching(str(left.get("batching", "auto")))
        parse_dtype("dtype=", left.get("dtype", "auto"))
    known = _passed_to_vllm() if vllm else _passed_to_transformers()
    if known is None:
        return
    for argument in left:
        if argument not in known and not _in_config(argument, pretrained):
            raise UnknownArgument(argument, known | left.looked_for - {argument})


def parse_dtype(option: str, given: object) -> torch.dtype | None:
    """Return the number type that transformers loads weights in; None for "auto".

    Args:
        option: the option's name as in messages, such as "dtype=".
        given: the value of the option.

    Raises:
        UserError: the value is neither "auto" nor a type of torch nor the name of one.
    """
    import torch

    if given == "auto":
        return None
    named = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(named, torch.dtype):
        raise UserError(f"{option}{given} is not a type of torch; use auto, float32 or bfloat16.")
    return named


@contextmanager
def stand_ins() -> Iterator[tuple[str, str]]:
    """Yield folders with a direction and with a soft prompt, to stand in for ones not made yet."""
    import torch
    from safetensors.torch import save_file

    from polyrefuse_models.directions import artifact

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        direction = folder / "direction"
        vector = torch.ones(1)
        extracted = artifact.Direction(vector, vector[None, None], harmless_mean=torch.ones(2, 1))
        artifact.save(extracted, direction)
        save_file({"prompt_embeddings": torch.ones(1, 1)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
        yield str(direction), str(folder)


def generation_settings() -> frozenset[str]:
    """Return the generation settings that transformers knows, and lm-eval's own."""
    from transformers import GenerationConfig

    return frozenset({*GenerationConfig().to_dict(), "until", "max_gen_toks"})


class _Looked(dict[str, Any]):
    """Arguments that remember which names were looked up in them."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.looked_for: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        self.looked_for |= {str(name)}
        return super().__contains__(name)

    def pop(self, name: str, *default: Any) -> Any:
        self.looked_for |= {name}
        return super().pop(name, *default)


@functools.cache
def _passed_to_transformers() -> frozenset[str]:
    from transformers import PreTrainedModel

    from polyrefuse_models.wrappers.hf import BaselineHF

    return frozenset({*_parameters(BaselineHF), *_taken_by(PreTrainedModel.from_pretrained)})


@functools.cache
def _passed_to_vllm() -> frozenset[str] | None:
    """Return the arguments that vLLM takes; None if vLLM is not installed."""
    try:
        from polyrefuse_models.wrappers.lm_evals_vllm import vllm
        from polyrefuse_models.wrappers.vllm import BaselineVLLM
    except UserError:
        return None
    return frozenset({*_parameters(BaselineVLLM), *inspect.signature(vllm.EngineArgs).parameters})


def _parameters(cls: type) -> Iterator[str]:
    """Yield the constructor parameters of a class and of all of its bases."""
    for one in cls.__mro__:
        if "__init__" in vars(one) and one is not object:
            yield from _named(vars(one)["__init__"])


def _taken_by(function: Callable[..., Any]) -> list[str]:
    """Return a function's parameters, and all strings in it that may be keys of its `kwargs`."""
    function = inspect.unwrap(function)
    code = getattr(function, "__func__", function).__code__
    words = [one for one in code.co_consts if isinstance(one, str) and one.isidentifier()]
    return [*_named(function), *words]


def _named(function: Callable[..., Any]) -> list[str]:
    """Return the parameters of a function that a caller can name, except `self`."""
    parameters = inspect.signature(function).parameters.values()
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [one.name for one in parameters if one.kind not in several and one.name != "self"]


@functools.cache
def _in_config(argument: str, pretrained: str) -> bool:
    """Whether the argument is an entry of the model's configuration that `from_pretrained` sets."""
    from transformers import AutoConfig

    if pretrained in bundled.SHIPPED:
        pretrained = str(bundled.path(pretrained))
    try:
        return hasattr(AutoConfig.from_pretrained(pretrained), argument)
    except Exception:  # Loading the model will say why it cannot be read.
        return False
