"""How busy a card is: `python benchmarks/card.py [--only study,agree]`.

Prints, from one run, what studies cost through the evaluator to numbers on the host: milliseconds, multiples of a plain
forward pass with its full cross entropy (launched operation by operation, and captured as one), and the share of the
time in which the card computes. Then (`xl`) the rate of a forward pass's products with weights, of GPT-2 XL's shape,
beside that of one large product, what `scrub run induction` takes from start to end, and how far four commands are from
the same on the CPU.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from gpt2_study import random_model
from gpt2_study import trial as gpt2_trial
from measuring import Work, alternate, busy, ratio, timed
from rich.console import Console
from rich.table import Table
from study import together

from scrub import Settings, ablate, patch, prepare, prompt_pairs, study_heads
from scrub.graph.node import node
from scrub.models.model import Model
from scrub.plan.capture import Replay
from scrub.study.run import Trial
from scrub.training.loss import Objective

SQUARE = 8192  # rows of the matrices whose product is timed
FLOPS_A_PARAMETER = 2


def plain(model: Model, tokens: torch.Tensor, captured: bool) -> Work:
    """A forward pass with the loss of every position."""
    objective, leaf = Objective(model.graph), node("tokens", source="x")

    def losses(bound: object) -> dict[str, torch.Tensor]:
        assert isinstance(bound, dict)
        return {"losses": objective.token_losses(model.params, bound[leaf])}

    return partial(Replay(losses) if captured else losses, {leaf: tokens})


def cost(name: str, make: Callable[[], Trial], repeats: int, table: Table) -> None:
    """Add what a study costs, and forward passes over as many batches of its sequences."""
    trial = make()
    batch = trial.settings.at_once(trial.examples.context)
    tokens = torch.from_numpy(trial.examples.tokens).to(trial.model.device)
    parts = torch.split(tokens, batch)

    def each(captured: bool) -> Work:
        forward = plain(trial.model, parts[0], captured)
        return lambda: [forward() for _ in parts]

    on_card = trial.model.device.type == "cuda"
    works = [each(False), each(on_card), together(lambda: trial)]
    for work in works:  # what is captured is so when it is called again
        work()
    seconds = alternate(works, repeats)
    share = busy(works[2])
    table.add_row(
        name,
        *(f"{1e3 * np.median(seconds[:, at]):.1f}" for at in range(3)),
        *(str(ratio(seconds[:, 2], seconds[:, at])) for at in range(2)),
        "" if share is None else f"{share:.0%}",
    )


def studies(sequences: int, batch: int, shape: str, device: str) -> Iterator[tuple[str, str, Callable[[], Trial]]]:
    """The studies by the part that they belong to, and what is printed of them."""
    settings = Settings(sequences, batch=batch, device=device, progress=False)
    for dtype in ("float32", "bfloat16"):
        of = replace(settings, dtype=dtype)
        yield "study", f"induction, {dtype}, {sequences} sequences", partial(prepare, "induction", settings=of)
    for dtype in ("float32", "bfloat16"):
        yield "gpt2", f"{shape}'s shape, 20 experiments, {dtype}", partial(_gpt2, shape, device, dtype)


def _gpt2(shape: str, device: str, dtype: str) -> Trial:
    trial = gpt2_trial(shape, None, 8, None, 8)
    settings = replace(trial.settings, device=device, dtype=dtype, progress=False)
    return replace(trial, model=trial.model.to(settings.torch_dtype, device), settings=settings)


def rate(shape: str, device: str, repeats: int, console: Console) -> None:
    """Print the rate of a forward pass's products with weights beside that of one large product, in bfloat16."""
    side = SQUARE if device != "cpu" else 64
    model = random_model(shape).to(torch.bfloat16, device)
    tokens = torch.zeros(4, model.n_ctx + 1, dtype=torch.long, device=device)
    square = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    weights = sum(value.numel() for value in model.params.values())
    seconds = alternate([plain(model, tokens, False), lambda: square @ square], repeats)
    done = np.array([FLOPS_A_PARAMETER * weights * 4 * model.n_ctx, 2 * side**3]) / seconds
    forward, product = np.median(done, 0) / 1e12
    share = ratio(done[:, 0], done[:, 1])
    console.print(f"{shape}'s forward: {forward:.0f} TFLOP/s beside {product:.0f} of one product: {share}")


def agree(sequences: int, device: str, console: Console) -> None:
    """Print how far what four commands give is from the same on the CPU."""
    pairs = prompt_pairs("attn2l", count=sequences)
    commands: dict[str, Callable[[Settings], pd.DataFrame]] = {
        "run": lambda settings: prepare("induction/naive", settings=settings).run().frame(),
        "ablate": lambda settings: ablate("attn2l", pairs, "heads", settings=settings).frame(),
        "patch": lambda settings: patch("attn2l", pairs, settings=settings).frame(),
        "heads": lambda settings: study_heads("attn2l", count=sequences, settings=settings).frame(),
    }
    settings = [Settings(sequences, device=where, progress=False) for where in ("cpu", device)]
    for name, command in commands.items():
        here, there = (command(each).select_dtypes("number").to_numpy() for each in settings)
        apart = np.nanmax(np.abs(here - there))
        console.print(f"{name}: no number is further than {apart:.1e} from the CPU's")


def main(
    only: Annotated[str, typer.Option(help="Of study, gpt2, xl, run and agree, with commas.")] = "study,gpt2,run,agree",
    device: Annotated[str, typer.Option(help="cuda, cuda:1, or cpu to try it.")] = "cuda",
    sequences: Annotated[int, typer.Option(help="Of a study.")] = 256,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 64,
    shape: Annotated[str, typer.Option(help="Of a GPT-2: gpt2, gpt2-mini or tiny.")] = "gpt2",
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Time studies on a card, and compare them with the CPU."""
    parts, console = only.split(","), Console(highlight=False, width=120)
    if device != "cpu":
        torch.cuda.set_device(device)
    name = torch.cuda.get_device_name(device) if device != "cpu" else "a CPU"
    console.print(f"{name}, torch {torch.__version__}, batch {batch}")
    table = Table("", "plain, ms", "captured, ms", "study, ms", "over plain", "over captured", "busy")
    for part, what, make in studies(sequences, batch, shape, device):
        if part in parts:
            with torch.inference_mode():
                cost(what, make, repeats, table)
    console.print(table)
    if "xl" in parts:
        with torch.inference_mode():
            rate("gpt2-xl" if device != "cpu" else shape, device, repeats, console)
    if "run" in parts:
        command = [sys.executable, "-m", "scrub", "run", "induction", "--device", device]
        seconds = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        console.print(f"scrub run induction, from start to end: {seconds:.1f} s")
    if "agree" in parts:
        agree(min(sequences, 64), device, console)


if __name__ == "__main__":
    typer.run(main)
