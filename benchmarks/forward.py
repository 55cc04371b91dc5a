"""What a model's graph costs beside transformers' own model: `python benchmarks/forward.py [--shape gpt2,llama|all]`.

Prints, from one run, the time and the peak memory of one forward pass of each, and their ratios: the same random
weights, read from one checkpoint, the same tokens. transformers attends as it does by default (`sdpa`: fused, no
pattern in memory), or, where it can't (GPT-J, and Gemma 2, whose scores are capped), with patterns as values (`eager`);
of a GPT-2 both are compared, with the same kind of attention in the graph. Both return the logits of all positions and
nothing else: transformers keeps no cache. The shapes are those of a published model of each family, with a few of its
layers, a part of its vocabulary and windows that are shorter than the sequences.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from measuring import MEBI, alternate, peaks, ratio
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from scrub.models.model import load_model
from scrub.plan.leaves import constants, leaves_of
from scrub.plan.plan import compile_plan
from scrub.study.settings import DTYPES


@dataclass(frozen=True)
class Shape:
    """A family of transformers', the fields of its config, and which kinds of attention are compared."""

    family: str
    fields: dict[str, Any]
    attention: tuple[str, ...] = ("sdpa",)


def _gpt2(*sizes: int) -> Shape:
    names = ("n_layer", "n_embd", "n_head", "vocab_size", "n_positions")
    return Shape("gpt2", dict(zip(names, sizes, strict=True)), ("sdpa", "eager"))


def _widths(hidden: int, mlp: int, layers: int, heads: int, keys: int | None, vocabulary: int = 8192) -> dict[str, Any]:
    grouped = {} if keys is None else {"num_key_value_heads": keys}
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        **grouped,
    }


LLAMA_3 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
SHAPES = {
    "gpt2": _gpt2(12, 768, 12, 50257, 1024),
    "gpt2-mini": _gpt2(4, 256, 8, 4096, 300),
    "llama": Shape(  # Llama 3.2 1B
        "llama",
        _widths(2048, 8192, 2, 32, 8)
        | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA_3}, "tie_word_embeddings": True},
    ),
    "smollm2": Shape("llama", _widths(576, 1536, 6, 9, 3) | {"tie_word_embeddings": True}),  # 135M
    "smollm2-135m": Shape("llama", _widths(576, 1536, 30, 9, 3, 49152) | {"tie_word_embeddings": True}),  # all of it
    "mistral": Shape("mistral", _widths(4096, 14336, 1, 32, 8) | {"sliding_window": 64}),  # 7B
    "qwen2": Shape("qwen2", _widths(896, 4864, 4, 14, 2) | {"tie_word_embeddings": True}),  # 2.5, 0.5B
    "qwen3": Shape("qwen3", _widths(1024, 3072, 4, 16, 8) | {"head_dim": 128, "tie_word_embeddings": True}),  # 0.6B
    "olmo2": Shape("olmo2", _widths(2048, 8192, 2, 16, 16)),  # 1B
    "gemma2": Shape(  # 2B
        "gemma2", _widths(2304, 9216, 2, 8, 4) | {"head_dim": 256, "sliding_window": 64}, ("eager",)
    ),
    "pythia": Shape("gpt_neox", _widths(768, 3072, 6, 12, None) | {"rotary_pct": 0.25}),  # 160m
    "phi": Shape("phi", _widths(2048, 8192, 2, 32, 32)),  # 1.5
    "gptj": Shape(  # 6B
        "gptj", {"n_layer": 1, "n_embd": 4096, "n_head": 16, "vocab_size": 8192, "n_positions": 2048}, ("eager",)
    ),
    "tiny": _gpt2(2, 6, 2, 11, 7),
    "tiny-llama": Shape("llama", _widths(24, 5, 2, 2, 1, 11) | {"tie_word_embeddings": True}),
    "tiny-gemma2": Shape("gemma2", _widths(6, 5, 2, 2, 1, 11) | {"head_dim": 6, "sliding_window": 3}, ("eager",)),
}
Forward = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """What both are given."""

    folder: Path  # of the checkpoint
    attention: str  # transformers'
    fused: bool  # whether the graph's is
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
    model = AutoModelForCausalLM.from_pretrained(
        case.folder, attn_implementation=case.attention, dtype=case.torch_dtype
    )
    model = model.eval().to(case.device)
    tokens = case.tokens(model.config.vocab_size)
    return lambda: model(tokens, use_cache=False).logits


def ours(case: Case) -> Forward:
    """A forward pass of the graph."""
    model = load_model(case.folder, case.torch_dtype, case.device)
    plan = compile_plan({"logits": model.graph}, selected=False, simplified=case.fused)
    leaves = leaves_of(plan)
    once = plan.once(constants(leaves, model.params, case.positions, case.device))
    bound = dict.fromkeys((leaf for leaf in leaves if leaf.op == "tokens"), case.tokens(model.vocab_size))
    return lambda: plan.run(once, bound)["logits"]


def compare(shape: Shape, case: Callable[..., Case], repeats: int) -> tuple[Table, float]:
    """Tabulate the time and memory of both, and how far their logits are apart at most."""
    table = Table("attention", "", "transformers", "graph", "ratio [95 %]")
    apart = 0.0
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        torch.manual_seed(0)
        tokens = {"bos_token_id": 0, "eos_token_id": 0}
        config = AutoConfig.for_model(shape.family, **shape.fields, **tokens)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        for attention in shape.attention:
            this = case(Path(folder), attention, fused=attention == shape.attention[0])
            works = [theirs(this), ours(this)]
            apart = max(apart, float((works[0]() - works[1]()).abs().max()))
            seconds = alternate(works, repeats)
            of_theirs, of_ours = torch.tensor(seconds).median(0).values.tolist()
            times = str(ratio(seconds[:, 1], seconds[:, 0]))
            table.add_row(attention, "seconds", f"{of_theirs:.3f}", f"{of_ours:.3f}", times)
            del works
            memory = peaks([partial(theirs, this), partial(ours, this)])
            of = f"{memory[1] / max(memory[0], 1):.2f}"
            table.add_row("", "peak MiB", *(f"{each / MEBI:.1f}" for each in memory), of)
    return table, apart


def main(
    shape: Annotated[str, typer.Option(help=f"all, or of {', '.join(SHAPES)}, parted by commas.")] = "gpt2",
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 2,
    positions: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 256,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 8,
) -> None:
    """Time a forward pass of the graph in multiples of transformers'."""
    console = Console()
    for name in SHAPES if shape == "all" else shape.split(","):
        case = partial(Case, batch=batch, positions=positions, dtype=dtype, device=device)
        table, apart = compare(SHAPES[name], case, repeats)
        where = f"{dtype} on {device}, {torch.get_num_threads()} thread(s)"
        console.print(f"{name}: {SHAPES[name].fields}, {batch} sequences of {positions} tokens, {where}")
        console.print(f"logits at most {apart:.1e} apart")
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
