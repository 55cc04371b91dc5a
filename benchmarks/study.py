"""What a study costs: `python benchmarks/study.py [STUDY]`.

Prints, from one run, the time of the whole study (all experiments and anchors, binding of tokens included,
gates not) as a multiple of one plain forward pass of the same model over the same sequences with its full
loss, and the peak memory of each. The plain forward pass is ordinary torch with fused attention. Rounds of
the two alternate, so that whatever else the machine does falls on both. With --alone, the losses of the
experiments also have a plan each, which shares nothing with the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
import typer
from measuring import MEBI, Work, alternate, clock, peaks, ratio
from rich.console import Console
from rich.table import Table
from torch import Tensor

from scrub import Settings, prepare
from scrub.graph.node import Node
from scrub.plan.plan import compute
from scrub.plan.runner import Runner
from scrub.study.binding import bind
from scrub.study.evaluate import Evaluator
from scrub.study.metric import LOSS
from scrub.study.run import Trial
from scrub.training.loss import Objective

Make = Callable[[], Trial]


def plain(make: Make) -> Work:
    """One forward pass over all sequences, with the loss of every position."""
    trial = make()
    model, batch = trial.model, _batch(trial)
    objective, tokens = Objective(model.graph), torch.from_numpy(trial.examples.tokens).to(model.device)

    def work() -> None:
        for start in range(0, len(tokens), batch):
            objective.token_losses(model.params, tokens[start : start + batch])

    return work


def together(make: Make) -> Work:
    """The whole study over all sequences, as `scrub run` computes it, to numbers on the host."""
    trial = make()
    return partial(_cleared(trial), trial.pairing(0))


def alone(make: Make) -> Work:
    """The losses of the experiments one after the other."""
    trial = make()
    receipt, pairing = _cleared(trial).receipt(trial.pairing(0)), trial.pairing(0)
    works = [
        Evaluator(trial.model, replace(trial.experiments, scrubbed=(each,)), [LOSS], trial.settings, receipt=receipt)
        for each in trial.experiments.scrubbed
    ]

    def work() -> None:
        for each in works:
            each(pairing)

    return work


def _cleared(trial: Trial) -> Evaluator:
    """The evaluator of a study that has passed its gates, which aren't timed."""
    evaluator = trial.evaluator()
    evaluator.check(trial.pairing(0))
    return evaluator


def _batch(trial: Trial) -> int:
    """How many sequences are computed at once."""
    return trial.settings.at_once(trial.examples.context)


def breakdown(runner: Runner, leaves: Mapping[Node, Tensor]) -> Counter[str]:
    """Seconds by operation, for one batch."""
    spent: Counter[str] = Counter()
    values = dict(runner.once)
    for at, step in enumerate(runner.plan.steps):
        if not step.per_run:
            start = clock()
            values[at] = compute(step, values, leaves, runner.place.way)
            spent[step.node.op] += clock() - start
            for each in step.frees:
                del values[each]
    return spent


def where_it_goes(trial: Trial) -> Counter[str]:
    """Seconds by operation, for the first batch of a study."""
    pairing = trial.pairing(0)
    runner = Runner(trial.plan(), trial.model.params, trial.examples.context, trial.settings.where)
    bound, _ = bind(runner.leaves, pairing, next(pairing.batches(_batch(trial))), runner.place.device)
    return breakdown(runner, bound)


def report(name: str, make: Make, repeats: int, with_alone: bool) -> None:
    """Measure a study, and print it. `make` makes it ready, here and in processes of their own (it is pickled)."""
    trial = make()
    makers = [plain, together, alone] if with_alone else [plain, together]
    with torch.inference_mode():
        seconds = alternate([maker(lambda: trial) for maker in makers], repeats)
        spent = where_it_goes(trial)
    memory = peaks([partial(maker, make) for maker in makers])
    console = Console()
    console.print(
        f"{name}: {len(trial.experiments)} experiments and anchors, {len(trial.examples)} sequences, "
        f"batch {_batch(trial)}, {trial.examples.scored.mean():.0%} of the positions selected, "
        f"{len(trial.plan().steps)} values in the plan, {torch.get_num_threads()} thread(s)"
    )
    table = Table("", "seconds", "ratio [95 %]", "peak MiB", "ratio")
    for at, maker in enumerate(makers):
        times = str(ratio(seconds[:, at], seconds[:, 0])) if at else ""
        of = f"{memory[at] / max(memory[0], 1):.2f}" if at else ""
        row = (f"{np.median(seconds[:, at]):.2f}", times, f"{memory[at] / MEBI:.0f}", of)
        table.add_row({plain: "plain forward", together: "study", alone: "each alone"}[maker], *row)
    console.print(table)
    where = Table("operation", "plain forwards", title="where it goes")
    for op, each in spent.most_common(10):
        where.add_row(op, f"{each / sum(spent.values()) * ratio(seconds[:, 1], seconds[:, 0]).value:.2f}")
    console.print(where)


def main(
    study: Annotated[str, typer.Argument(help="A study or hypothesis.")] = "induction",
    sequences: Annotated[int, typer.Option(help="How many.")] = 64,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 8,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
    alone: Annotated[bool, typer.Option(help="Also run every experiment on its own.")] = False,
) -> None:
    """Time a study in multiples of a plain forward pass."""
    report(study, partial(prepare, study, settings=Settings(sequences, batch=batch)), repeats, alone)


if __name__ == "__main__":
    typer.run(main)
