"""What the pool saves where a draw has a sequence for each position: `python benchmarks/pool.py`.

A claim of the paren study, 3a: what head 2.1 reads at each of 42 positions is drawn for that position alone. It prints
what the claim costs, without the anchors that run beside it: where what each draw reads is computed by itself (that
alone), where draws of a batch that are alike are one, with the pool made in the run, and once it is there. Weights are
random: what is computed doesn't hang on them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from measuring import timed
from rich.console import Console
from rich.table import Table

import scrub
from scrub.models.model import lower, make_model
from scrub.paths.sources import Draw
from scrub.study import pool
from scrub.study.draws import Pairing
from scrub.study.evaluate import Evaluator
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
    anchors = trial.experiments.only(["baseline", "all_scrubbed"])
    before = timed(lambda: _evaluated(replace(trial, experiments=anchors), pairing, 0))
    seconds = {
        "alike ones of a batch together": timed(lambda: _evaluated(trial, pairing, 0)),
        "making the pool": timed(lambda: _evaluated(trial, pairing, pool.MOST_BYTES)),
    }
    made = _unchecked(trial)
    made(pairing)
    seconds["once it is there"] = float(np.median([timed(lambda: made(pairing)) for _ in range(options.repeats)]))
    (source,) = {draw for draw in trial.experiments.draws if draw.by_row}
    seconds = {name: each - before for name, each in seconds.items()}
    seconds = {"each draw by itself": timed(lambda: _by_itself(made, pairing, source)), **seconds}
    rows = np.unique(pairing.pool[np.unique(pairing.partners[source])], axis=0)
    say = Console(highlight=False, width=120).print
    say(
        f"{HYPOTHESIS}, {options.references:,} references: {pairing.partners[source].size:,} draws of {len(rows):,} "
        "different rows"
    )
    table = Table("claim 3a", "seconds", "times cheaper")
    for name, each in seconds.items():
        table.add_row(name, f"{each:.1f}", f"{seconds['each draw by itself'] / each:.1f}")
    say(table)


def _unchecked(trial: Trial) -> Evaluator:
    """Make an evaluator without gates, which are no part of what is compared."""
    made = trial.evaluator()
    made._gates = Gates({}, ())
    return made


def _evaluated(trial: Trial, pairing: Pairing, most_bytes: int) -> object:
    pool.MOST_BYTES, before = most_bytes, pool.MOST_BYTES
    try:
        return _unchecked(trial)(pairing)
    finally:
        pool.MOST_BYTES = before


def _by_itself(made: Evaluator, pairing: Pairing, source: Draw) -> None:
    """Compute what each draw reads, as often as it is drawn."""
    there = made._pool_of(pairing)
    for _ in there._on(there._number[pairing.partners[source].ravel()]):
        pass


if __name__ == "__main__":
    main()
