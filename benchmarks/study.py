"""What a study costs: `python benchmarks/study.py [STUDY]`.

Prints, from one run, the time of the whole study (all experiments and anchors, binding of tokens included,
gates not) as a multiple of one plain forward pass of the same model over the same sequences with its full
loss, and the peak memory of each. The plain forward pass is ordinary torch with fused attention. Rounds of
the two alternate, so that whatever else the machine does falls on both; the ratio is that of the medians.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from scrub import Settings, prepare
from scrub.plan.plan import Plan, compute, leaves_of
from scrub.study.binding import bind, constants
from scrub.study.run import Prepared
from scrub.training.loss import token_losses

MEBI = 1 << 20


def rounds(prepared: Prepared) -> tuple[Callable[[], None], Callable[[], None]]:
    """One pass over all sequences: plain, and of the whole study."""
    plan, draw, batch = prepared.plan(), prepared.draw(0), prepared.settings.batch
    leaves = leaves_of(plan)
    once = plan.once(constants(leaves, prepared.model.params, prepared.model.n_ctx))
    tokens = torch.from_numpy(draw.tokens)

    def plain() -> None:
        for start in range(0, len(tokens), batch):
            token_losses(prepared.model.params, prepared.model.config, tokens[start : start + batch])

    def study() -> None:
        for members in draw.batches(batch):
            bound, _ = bind(leaves, draw, members)
            plan.run(once, bound)

    return plain, study


def timed(work: Callable[[], None]) -> float:
    """Seconds of the processor, which other processes disturb less than those of the clock."""
    start = time.process_time()
    work()
    return time.process_time() - start


def breakdown(plan: Plan, once: Mapping[int, Tensor], leaves: Mapping[object, Tensor]) -> Counter[str]:
    """Seconds by operation, for one batch."""
    spent: Counter[str] = Counter()
    values = dict(once)
    for at, step in enumerate(plan.steps):
        if not step.per_run:
            start = time.process_time()
            values[at] = compute(step, values, leaves)
            spent[step.node.op] += time.process_time() - start
            for each in step.frees:
                del values[each]
    return spent


def peak(study: str, sequences: int, batch: int, which: int) -> int:
    """The most memory, in bytes, that one pass holds on top of the loaded model and sequences (Linux only)."""
    status, mark = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not mark.exists():
        return 0

    def kibi(field: str) -> int:
        return int(status.read_text().partition(f"{field}:")[2].split()[0])

    with torch.inference_mode():
        work = rounds(prepare(study, settings=Settings(sequences, batch=batch)))[which]
        mark.write_text("5")  # the peak begins anew
        before = kibi("VmRSS")
        work()
    return (kibi("VmHWM") - before) * 1024


def main(
    study: Annotated[str, typer.Argument(help="A study or hypothesis.")] = "induction",
    sequences: Annotated[int, typer.Option(help="How many.")] = 64,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 8,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Time a study in multiples of a plain forward pass."""
    prepared = prepare(study, settings=Settings(sequences, batch=batch))
    console = Console()
    with torch.inference_mode():
        plain, whole = rounds(prepared)
        plain(), whole()
        seconds = [(timed(plain), timed(whole)) for _ in range(repeats)]
        plan, draw = prepared.plan(), prepared.draw(0)
        leaves = leaves_of(plan)
        bound, _ = bind(leaves, draw, next(draw.batches(batch)))
        spent = breakdown(plan, plan.once(constants(leaves, prepared.model.params, prepared.model.n_ctx)), bound)
    of_plain, of_study = (statistics.median(each) for each in zip(*seconds, strict=True))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = pool.starmap(peak, [(study, sequences, batch, which) for which in (0, 1)], chunksize=1)
    console.print(
        f"{study}: {len(prepared.experiments)} experiments and anchors, {sequences} sequences, batch {batch}, "
        f"{prepared.selected.mean():.0%} of the positions selected, {len(plan.steps)} values in the plan"
    )
    table = Table("", "plain forward", "study", "ratio")
    table.add_row("seconds", f"{of_plain:.2f}", f"{of_study:.2f}", f"{of_study / of_plain:.2f}")
    table.add_row("peak MiB", *(f"{each / MEBI:.0f}" for each in memory), f"{memory[1] / max(memory[0], 1):.2f}")
    console.print(table)
    where = Table("operation", "plain forwards", title="where it goes")
    for op, each in spent.most_common(10):
        where.add_row(op, f"{each / sum(spent.values()) * of_study / of_plain:.2f}")
    console.print(where)


if __name__ == "__main__":
    typer.run(main)
