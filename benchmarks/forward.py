"""What the graph of a GPT-2 costs beside transformers' own model: `python benchmarks/forward.py [--shape gpt2]`.

Prints, from one run, the time and the peak memory of one forward pass of each, and their ratios: the same random
weights, read from one checkpoint, the same tokens, the same kind of attention (`sdpa`: fused, no pattern in memory;
`eager`: patterns as values). Both return the logits of all positions and nothing else: transformers keeps no cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from measuring import MEBI, alternate, peaks, ratio
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from scrub.models.model import load_model
from scrub.plan.leaves import constants, leaves_of
from scrub.plan.plan import compile_plan
from scrub.study.settings import DTYPES

SHAPES = {
    "gpt2": {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
    "gpt2-mini": {"n_layer": 4, "n_embd": 256, "n_head": 8, "vocab_size": 4096, "n_positions": 300},
    "tiny": {"n_layer": 2, "n_embd": 6, "n_head": 2, "vocab_size": 11, "n_positions": 7},
}
Forward = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """What both are given."""

    folder: Path  # of the checkpoint
    attention: str
    batch: int
    positions: int
    dtype: str
    device: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """What torch calls the type."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def tokens(self, vocabulary: int) -> Tensor:
        """Random tokens [batch, position]."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(vocabulary, (self.batch, self.positions), generator=generator).to(self.device)


def theirs(case: Case) -> Forward:
    """A forward pass of transformers' model."""
    model = GPT2LMHeadModel.from_pretrained(case.folder, attn_implementation=case.attention, dtype=case.torch_dtype)
    model = model.eval().to(case.device)
    tokens = case.tokens(model.config.vocab_size)
    return lambda: model(tokens, use_cache=False).logits


def ours(case: Case) -> Forward:
    """A forward pass of the graph."""
    model = load_model(case.folder, case.torch_dtype, case.device)
    plan = compile_plan({"logits": model.graph}, selected=False, simplified=case.attention == "sdpa")
    leaves = leaves_of(plan)
    once = plan.once(constants(leaves, model.params, case.positions, case.device))
    bound = dict.fromkeys((leaf for leaf in leaves if leaf.op == "tokens"), case.tokens(model.vocab_size))
    return lambda: plan.run(once, bound)["logits"]


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "gpt2",
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 2,
    positions: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 256,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 8,
) -> None:
    """Time a forward pass of the graph in multiples of transformers'."""
    begin = {"bos_token_id": 0, "eos_token_id": 0}
    table = Table("attention", "", "transformers", "graph", "ratio [95 %]")
    apart = 0.0
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**SHAPES[shape], **begin)).save_pretrained(folder)
        for attention in ("sdpa", "eager"):
            case = Case(Path(folder), attention, batch, positions, dtype, device)
            works = [theirs(case), ours(case)]
            apart = max(apart, float((works[0]() - works[1]()).abs().max()))
            seconds = alternate(works, repeats)
            of_theirs, of_ours = torch.tensor(seconds).median(0).values.tolist()
            table.add_row(
                attention, "seconds", f"{of_theirs:.3f}", f"{of_ours:.3f}", str(ratio(seconds[:, 1], seconds[:, 0]))
            )
            del works
            memory = peaks([partial(theirs, case), partial(ours, case)])
            of = f"{memory[1] / max(memory[0], 1):.2f}"
            table.add_row("", "peak MiB", *(f"{each / MEBI:.1f}" for each in memory), of)
    console = Console()
    where = f"{dtype} on {device}, {torch.get_num_threads()} thread(s)"
    console.print(f"{shape}: {SHAPES[shape]}, {batch} sequences of {positions} tokens, {where}")
    console.print(f"logits at most {apart:.1e} apart")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
