"""What the pool saves where a draw has a sequence for each position: `python benchmarks/pool.py`.

A claim of the paren study, 3a: what head 2.1 reads at each of 42 positions is drawn for that position alone. It prints,
in runs of the same plan without a pool, which computes what was drawn batch by batch: a run that makes the pool, and
one once it is there. Weights are random: what is computed doesn't hang on them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np
import torch
from measuring import timed
from rich.console import Console
from rich.table import Table

import scrub
from scrub.models.model import lower, make_model
from scrub.study import pool
from scrub.study.gates import Gates
from scrub.study.run import Trial
from scrub.training.parameters import SHAPES, initial_parameters

HYPOTHESIS = "parens/claim_3a"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = SHAPES["parens3l"]
    model = make_model("parens3l", config, initial_parameters(lower(config), seed=0))
    settings = scrub.Settings(sequences=options.references, parts=("label",), progress=False)
    trial = scrub.prepare(HYPOTHESIS, model, "parens", settings)
    pairing = trial.pairing(0)
    seconds = {
        "without": timed(lambda: _evaluated(trial, pairing, 0)),
        "making it": timed(lambda: _evaluated(trial, pairing, pool.MOST_BYTES)),
    }
    made = trial.evaluator()
    made(pairing)
    seconds["once it is there"] = float(np.median([timed(lambda: made(pairing)) for _ in range(options.repeats)]))
    (source,) = {draw for draw in trial.experiments.draws if draw.by_row}
    rows = np.unique(pairing.pool[np.unique(pairing.partners[source])], axis=0)
    say = Console(highlight=False, width=120).print
    say(
        f"{HYPOTHESIS}, {options.references:,} references: {pairing.partners[source].size:,} draws of {len(rows):,} "
        "different rows"
    )
    table = Table("a run", "seconds", "times cheaper")
    for name, each in seconds.items():
        table.add_row(name, f"{each:.1f}", f"{seconds['without'] / each:.1f}")
    say(table)


def _evaluated(trial: Trial, pairing: object, most_bytes: int) -> object:
    pool.MOST_BYTES, before = most_bytes, pool.MOST_BYTES
    try:
        made = trial.evaluator()
        made._gates = Gates({}, ())  # which are no part of what is compared
        return made(pairing)  # type: ignore[arg-type]
    finally:
        pool.MOST_BYTES = before


if __name__ == "__main__":
    main()
