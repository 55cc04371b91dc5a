"""How busy a card is: `python benchmarks/card.py [--only study,agree]`.

Prints, from one run, what studies, and ablating and patching every head, cost through the evaluator to numbers on the
host, as in a run that is long enough for all that a card prepares: milliseconds, multiples of a plain forward pass with
its full cross entropy (launched operation by operation, and captured as one), and the share of the time in which the
card computes. Then (`xl`) the rate of a forward pass's products with weights, of GPT-2 XL's shape, beside that of one
large product, what `scrub run induction` takes from start to end, how far five commands are from the same on the CPU,
and how far TF32 is from float32.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from gpt2_study import random_model
from gpt2_study import trial as gpt2_trial
from interventions import experiments as every_head
from measuring import Work, alternate, busy, ratio, timed
from rich.console import Console
from rich.table import Table

from scrub import Settings, ablate, attribute, patch, prepare, prompt_pairs, sweep
from scrub.data.examples import Examples
from scrub.graph.node import node
from scrub.models.model import Model
from scrub.paths.sources import Source, Y, Zero
from scrub.plan.capture import Replay
from scrub.plan.runner import FUSED_FROM
from scrub.study.draws import Pairing, pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.metric import LOGIT, LOSS, MEAN_LOGIT
from scrub.study.settings import COMPUTING
from scrub.training.loss import Objective

DTYPES = ("float32", "bfloat16")
Measured = tuple[Evaluator, Pairing, tuple[str, ...]]  # and the metrics of which every position is kept
Make = Callable[[], Measured]
SQUARE = 8192  # rows of the matrices whose product is timed
FLOPS_A_PARAMETER = 2


def plain(model: Model, tokens: torch.Tensor, captured: bool) -> Work:
    """A forward pass with the loss of every position."""
    objective, leaf = Objective(model.graph), node("tokens", source="x")

    def losses(bound: object) -> dict[str, torch.Tensor]:
        assert isinstance(bound, dict)
        return {"losses": objective.token_losses(model.params, bound[leaf])}

    return partial(Replay(losses) if captured else losses, {leaf: tokens})


def cost(name: str, make: Make, repeats: int, table: Table) -> None:
    """Add what experiments cost, and forward passes over as many batches of their sequences."""
    made, pairing, kept = make()
    made.check(pairing)  # which isn't timed
    model, batch = made.model, made.settings.at_once(pairing.examples.context)
    parts = torch.split(torch.from_numpy(pairing.examples.tokens).to(model.device), batch)

    def each(captured: bool) -> Work:
        forward = plain(model, parts[0], captured)
        return lambda: [forward() for _ in parts]

    works = [each(False), each(model.device.type == "cuda"), lambda: made(pairing, values_of=kept)]
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


def measured(sequences: int, batch: int, shape: str, device: str) -> Iterator[tuple[str, str, Make]]:
    """What is measured by the part that it belongs to, and what is printed of it."""
    long = Settings(sequences, batch=batch, device=device, progress=False, draws=FUSED_FROM)
    for dtype in DTYPES:
        settings = replace(long, dtype=dtype)
        yield "study", f"induction, {dtype}, {sequences} sequences", partial(_induction, settings)
    for dtype in DTYPES:
        settings = replace(long, dtype=dtype, batch=8)
        yield "gpt2", f"{shape}'s shape, 20 experiments, {dtype}", partial(_gpt2, shape, settings)
    for dtype, source in product(DTYPES, (Zero(), Y)):
        settings = replace(long, dtype=dtype, batch=8)
        what = f"every head of {shape} {'patched' if source == Y else 'ablated'}, {dtype}"
        yield "ablate", what, partial(_heads, shape, source, settings)


def _induction(settings: Settings) -> Measured:
    trial = prepare("induction", settings=settings)
    return trial.evaluator(), trial.pairing(0), ()


def _gpt2(shape: str, settings: Settings) -> Measured:
    trial = replace(gpt2_trial(shape, None, 8, None, 8), settings=settings)
    return trial.evaluator(), trial.pairing(0), ()


def _heads(shape: str, source: Source, settings: Settings) -> Measured:
    model = random_model(shape)
    tokens = np.random.default_rng(0).integers(model.vocab_size, size=(8, model.n_ctx + 1))
    each = every_head(model, source)
    metrics = (LOSS,) if source == Y else (LOSS, LOGIT, MEAN_LOGIT)  # as the commands have them
    pairing = pair_up(Examples(tokens, np.ones((8, model.n_ctx), dtype=bool)), each.draws)
    return Evaluator(model, each, metrics, settings, quiet=True), pairing, tuple(metric.name for metric in metrics)


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
    """Print how far what five commands give is from the same on the CPU."""
    pairs = prompt_pairs("attn2l", count=sequences)

    def swept(settings: Settings) -> pd.DataFrame:
        with TemporaryDirectory() as folder:
            grid = {"sequences": settings.sequences, "device": settings.device, "progress": False}
            return sweep("induction/naive", Path(folder) / "results", workers=1, **grid).only().result.frame()

    commands: dict[str, Callable[[Settings], pd.DataFrame]] = {
        "run": lambda settings: prepare("induction/naive", settings=settings).run().frame(),
        "ablate": lambda settings: ablate("attn2l", pairs, "heads", settings=settings.only(COMPUTING)).frame(),
        "patch": lambda settings: patch("attn2l", pairs, settings=settings.only(COMPUTING)).frame(),
        "attribute": lambda settings: (
            attribute(model="attn2l", data=pairs, top=5, settings=settings.only(COMPUTING)).frame().sort_values("edge")
        ),
        "sweep": swept,
    }
    here, there = (Settings(sequences, device=where, progress=False) for where in ("cpu", device))
    for name, command in commands.items():
        console.print(f"{name}: no number is further than {_apart(command, here, there):.1e} from the CPU's")
    if device != "cpu":
        for name, command in commands.items():
            if name != "sweep":
                apart = _apart(command, there, replace(there, dtype="tf32"))
                console.print(f"{name} in TF32: no number is further than {apart:.1e} from float32's")


def _apart(command: Callable[[Settings], pd.DataFrame], *settings: Settings) -> float:
    one, other = (command(each).select_dtypes("number").to_numpy() for each in settings)
    return float(np.nanmax(np.abs(one - other)))


def main(
    only: Annotated[
        str, typer.Option(help="Of study, gpt2, ablate, xl, run and agree, with commas.")
    ] = "study,gpt2,run,agree",
    device: Annotated[str, typer.Option(help="cuda, cuda:1, or cpu to try it.")] = "cuda",
    sequences: Annotated[int, typer.Option(help="Of a study.")] = 256,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 64,
    shape: Annotated[str, typer.Option(help="Of a GPT-2: gpt2, gpt2-mini or tiny.")] = "gpt2",
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Time studies on a card, and compare them with the CPU."""
    parts, console = only.split(","), Console(highlight=False, width=160)
    if device != "cpu":
        torch.cuda.set_device(device)
    name = torch.cuda.get_device_name(device) if device != "cpu" else "a CPU"
    console.print(f"{name}, torch {torch.__version__}, batch {batch}")
    table = Table("", "plain, ms", "captured, ms", "all, ms", "over plain", "over captured", "busy")
    for part, what, make in measured(sequences, batch, shape, device):
        if part in parts:
            with torch.inference_mode():
                cost(what, make, repeats, table)
    if table.rows:
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
