"""How often an interval holds the truth: `python benchmarks/coverage.py [--trials N]`.

Draws data sets of which the truth is known: documents of several sequences that are alike in how hard they are, in what
the baseline costs there and in how much of it is recovered. Prints how many of 100 intervals of the percent recovered,
of the loss and of a paired difference hold it, how often a difference that isn't there has p below 0.05, and how often
one of five has after Holm's adjustment. `shipped` has as many sequences of each document as the shipped text gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator
from rich.console import Console
from rich.progress import track
from rich.table import Table

from scrub.study import statistics
from scrub.study.statistics import Bootstrap, holm, recovered

COUNTS = (8, 16, 64, 512)  # documents
MEAN_LOSS, SHARE = 2.0, 75.0  # nats, percent: the truth
# sequences of each document, in the 512 that `scrub run induction` takes of Python 3.11's standard library
SHIPPED = (*(6,) * 67, *(5,) * 5, *(4,) * 9, *(3,) * 5, *(2,) * 9, *(1,) * 16)
Sizes = Callable[[Generator, int], np.ndarray]
SIZES: dict[str, Sizes] = {
    "even": lambda _, count: np.full(count, 6),
    "shipped": lambda rng, count: rng.choice(SHIPPED, count),
    "heavy tails": lambda rng, count: np.minimum(1 + rng.pareto(1.0, count).astype(int), 200),
}


class Data:
    """One data set: sums over the positions of each sequence, of losses and of six hypotheses that recover as much."""

    def __init__(self, rng: Generator, sizes: np.ndarray) -> None:
        self.documents = np.repeat(np.arange(len(sizes)), sizes)
        count = len(self.documents)

        def alike(shape: float, scale: float) -> np.ndarray:
            """Half of it the document's, half the sequence's own."""
            return rng.gamma(shape, scale / 2, len(sizes))[self.documents] + rng.gamma(shape, scale / 2, count)

        self.positions = rng.integers(1, 40, count)
        self.unscrubbed = alike(2, MEAN_LOSS / 2) * self.positions
        gap = alike(2, 0.25) * self.positions
        self.baseline = self.unscrubbed + gap
        own = rng.beta(3, 1, (len(sizes)))[self.documents]
        kept = [0.5 * own + 0.25 * rng.beta(3, 1, count) + 0.25 * self._of_document(rng, len(sizes)) for _ in range(6)]
        self.scrubbed = [self.unscrubbed + (1 - each) * gap for each in kept]

    def _of_document(self, rng: Generator, documents: int) -> np.ndarray:
        return np.asarray(rng.beta(3, 1, documents)[self.documents])


def trial(rng: Generator, sizes: np.ndarray) -> list[bool]:
    """Whether each of the claims holds on one data set."""
    data = Data(rng, sizes)
    bootstrap = Bootstrap(data.positions, int(rng.integers(1 << 30)), data.documents)
    unscrubbed, baseline, *scrubbed = bootstrap.means(np.stack([data.unscrubbed, data.baseline, *data.scrubbed]))
    shares = [recovered(each, baseline, unscrubbed) for each in scrubbed]
    found = [bootstrap.interval(values) for values in (shares[0], unscrubbed, shares[1] - shares[0])]
    held = [of.low <= truth <= of.high for of, truth in zip(found, (SHARE, MEAN_LOSS, 0.0), strict=True)]
    p = [bootstrap.p_value(each - shares[0]) for each in shares[1:]]
    return [*held, p[0] < 0.05, min(holm(p)) < 0.05]


def main(
    trials: Annotated[int, typer.Option(metavar="N", help="Data sets of each kind.")] = 2000,
    seed: int = 0,
) -> None:
    """Print the table."""
    table = Table(title=f"of 100 intervals, {trials:,} data sets each, {statistics.RESAMPLES:,} resamples")
    for title in ("sizes", "documents", "recovered", "loss", "difference", "p < 0.05", "Holm of 5 < 0.05"):
        table.add_column(title, justify="left" if title == "sizes" else "right")
    for kind, sizes in SIZES.items():
        for count in COUNTS:
            rng = np.random.default_rng([seed, count, *kind.encode()])
            rounds = trials if count < COUNTS[-1] else max(1, trials // 4)  # which cost much, and vary little
            held = [trial(rng, sizes(rng, count)) for _ in track(range(rounds), f"{kind}, {count}", transient=True)]
            table.add_row(kind, str(count), *(f"{100 * share:.1f}" for share in np.mean(held, axis=0)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
