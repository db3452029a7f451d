"""Measure how much of a direction ablation leaves in the residual stream.

    python -m benchmarks.precision [--width 1024] [--layers 24] [--prompts 16] [--device cuda]

The program compares methods of ablation in float32 and bfloat16 on two models: a random Llama, and
the bundled organism with its planted direction. The random model has four dimensions to which every
block writes a hundred times as much as to the others, like the "massive activations" of published
models (arXiv 2402.17762). The direction has large components in these dimensions, because rounding
leaves most there.

For each method the program prints the largest and the mean |x.r| / |x|, in percent, over the inputs
of all blocks and of the final norm at every token. It also prints the mean KL divergence of the
next token from the same model, ablated in the same way, in float32.

`authors` projects at every block's input and at every attention's and MLP's output (3 L
projections), in the model's own precision, as the code of arXiv 2505.17306 does. `writes` projects
at every write to the stream (2 L + 1 projections). `hooks` and `weights` are the methods of
`ablated-hf`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from polyrefuse_models import bundled
from polyrefuse_models.anatomy import dissect
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.interventions import Ablation, ablate
from polyrefuse_models.interventions.orthogonalise import orthogonalise
from polyrefuse_models.organism.planted import planted
from tests.models import make_llama

MASSIVE = (3, 17, 101, 200)


class Authors(Hooks):
    """The authors' 3 L projections, in the model's own precision."""

    def __init__(self, model: PreTrainedModel, direction: Tensor) -> None:
        super().__init__()

        def change(x: Tensor) -> Tensor:
            r = (direction / direction.norm()).to(x)
            return x - (x @ r).unsqueeze(-1) * r

        for block in dissect(model).blocks:
            self.on_input(block.module, change)
            for writer in block.writers:
                self.on_output(writer.module, change)


class Writes(Hooks):
    """One projection at each write, computed in float32."""

    def __init__(self, model: PreTrainedModel, direction: Tensor) -> None:
        super().__init__()
        unit = direction / direction.norm()
        blocks = dissect(model).blocks
        self.on_input(blocks[0].module, lambda x: ablate(x, unit))
        for block in blocks:
            for writer in block.writers:
                self.on_output(writer.module, lambda x: ablate(x, unit))


METHODS: dict[str, Callable[[PreTrainedModel, Tensor], object]] = {
    "nothing": lambda model, direction: None,
    "authors": Authors,
    "writes": Writes,
    "hooks": lambda model, direction: Ablation(direction).install(model),
    "weights": orthogonalise,
}


def random_llama(width: int, layers: int) -> tuple[PreTrainedModel, Tensor]:
    """Return the random model in float32, and its direction of shape [width]."""
    model = make_llama(layers=layers, width=width)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 0.1  # to a standard deviation of 0.02, usual in initialisation
    for block in model.model.layers:
        for projection in (block.self_attn.o_proj, block.mlp.down_proj):
            projection.weight.data[list(MASSIVE)] *= 100
    direction = torch.randn(width)
    direction[list(MASSIVE)] *= 5
    return model, direction


@contextmanager
def watched(model: PreTrainedModel, unit: Tensor) -> Iterator[list[Tensor]]:
    """Collect |x.r| / |x| at the inputs of every block and of the final norm."""
    shares: list[Tensor] = []

    def look(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        x = (args[0] if args else kwargs["hidden_states"]).double()
        shares.append(((x @ unit).abs() / x.norm(dim=-1)).flatten())

    modules = [*model.model.layers, model.model.norm]
    handles = [m.register_forward_pre_hook(look, with_kwargs=True) for m in modules]
    try:
        yield shares
    finally:
        for handle in handles:
            handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    trained = AutoModelForCausalLM.from_pretrained(bundled.path()).eval()
    print(f"{'model':10}{'type':10}{'method':10}{'largest %':>12}{'mean %':>10}{'KL, nats':>12}")
    for name, (model, direction) in {
        "random": random_llama(asked.width, asked.layers),
        "organism": (trained, planted()),
    }.items():
        torch.manual_seed(1)
        ids = torch.randint(3, model.config.vocab_size, (asked.prompts, 32)).to(asked.device)
        model, direction = model.to(asked.device), direction.to(asked.device)
        unit = (direction / direction.norm()).double()
        exact: dict[str, Tensor] = {}
        for dtype in (torch.float32, torch.bfloat16):
            for method, ablating in METHODS.items():
                tried = copy.deepcopy(model).to(dtype)
                ablating(tried, direction)
                # These hooks run after the method's hooks, which change a block's input first.
                with torch.no_grad(), watched(tried, unit) as left:
                    logits = tried(input_ids=ids).logits[:, -1].double().log_softmax(-1)
                base = exact.setdefault(method, logits)
                kl = (base.exp() * (base - logits)).sum(-1).mean()
                rest = 100 * torch.cat(left)
                print(
                    f"{name:10}{str(dtype)[6:]:10}{method:10}{rest.max():12.5f}{rest.mean():10.5f}"
                    f"{kl:12.2e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
