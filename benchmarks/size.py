"""What patching every head of a model as large as SmolLM2 135M costs: `python benchmarks/size.py`.

Pairs of random tokens: clean prompts into corrupted ones, one head after the other, one scored position a prompt. It
prints, in plain forward passes of transformers' over all prompts of the same run, with logits everywhere: what comes
before (the experiments, their plan, the gates), and the run; once for pairs that differ from the first token on, and
once for pairs that first differ in their last third. Beside them stand the number of steps of the plan, and the peak
memory of a run over what the plan's own account says.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forward import SHAPES
from measuring import MEBI, Work, alternate, peaks, ratio, timed
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from scrub import Examples, Settings, load_model
from scrub.measure.interventions.effects import experiments_of
from scrub.measure.interventions.intervention import feed
from scrub.paths.sites import heads, read_sites
from scrub.paths.sources import X, Y
from scrub.plan.memory import peak_bytes
from scrub.study.binding import bind
from scrub.study.draws import Pairing, pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.metric import LOSS

QUIET = Settings(progress=False)


def pairs_of(vocabulary: int, count: int, positions: int, differ_from: int) -> Pairing:
    """Pairs of random tokens that are the same in front of a position, and whose last position is scored."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(vocabulary, size=(count, positions + 1))
    other, scored = tokens.copy(), np.zeros((count, positions), dtype=bool)
    while (other[:, differ_from] == tokens[:, differ_from]).any():
        other[:, differ_from:-1] = rng.integers(vocabulary, size=(count, positions - differ_from))
    scored[:, -1] = True
    return pair_up(Examples(tokens, scored, "pairs", other=other), [X, Y])


def plain(folder: Path, pairing: Pairing) -> Work:
    """A forward pass of transformers' over clean and corrupted prompts."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.from_numpy(pairing.pool[:, :-1])
    return lambda: model(tokens, use_cache=False).logits


def prepared(folder: Path, pairing: Pairing) -> Evaluator:
    """Make the experiments and their plan, and pass the gates."""
    model = load_model(folder)
    every = [feed(head, read_sites(head, model.graph, model.roles), Y) for head in heads(model.graph)]
    made = Evaluator(model, experiments_of(model, every), [LOSS], QUIET, quiet=True)
    made.check(pairing)
    for chunk in range(len(made._chunks)):
        made._runner(chunk, pairing)
    return made


def patched(folder: Path, pairing: Pairing) -> Work:
    """Every head by itself, to numbers on the host."""
    return partial(prepared(folder, pairing), pairing)


def estimate(made: Evaluator, pairing: Pairing) -> int:
    """The peak of the plans' own account, in bytes."""
    size = made.settings.at_once(pairing.examples.context)
    return max(
        peak_bytes(runner, bind(runner.leaves, pairing, pairing.order[:size])[0]) for runner in made._runners.values()
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="smollm2-135m", choices=sorted(SHAPES))
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--positions", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    shape = SHAPES[options.shape]
    say = Console(highlight=False, width=120).print
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        folder = Path(place)
        tokens = {"bos_token_id": 0, "eos_token_id": 0}
        config = AutoConfig.for_model(shape.family, **shape.fields, **tokens)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        table = Table("pairs differ from", "patches", "steps", "before", "run", "memory / estimate")
        for differ_from in (0, 2 * options.positions // 3):
            pairing = pairs_of(config.vocab_size, options.pairs, options.positions, differ_from)
            table.add_row(str(differ_from), *measured(folder, pairing, options.repeats))
    say(f"{options.shape}: {options.pairs} pairs of {options.positions} tokens, {options.repeats} rounds; in plain")
    say("forward passes of transformers' over all prompts, with logits everywhere")
    say(table)


def measured(folder: Path, pairing: Pairing, repeats: int) -> list[str]:
    """Measure one row: what is prepared once, and what is run in turn with plain forward passes."""
    once = plain(folder, pairing)
    made: list[Evaluator] = []

    def prepare() -> object:
        made.append(prepared(folder, pairing))
        return made

    before = timed(prepare)
    steps = sum(len(runner.plan.steps) for runner in made[0]._runners.values())
    works: list[Callable[[], Any]] = [once, partial(made[0], pairing)]
    seconds = alternate(works, repeats)
    expected = estimate(made[0], pairing)
    of, patches = float(np.median(seconds[:, 0])), len(made[0].experiments) - 1
    made.clear()
    (memory,) = peaks([partial(patched, folder, pairing)])
    return [
        str(patches),
        f"{steps:,}",
        f"{before / of:.1f}",
        str(ratio(seconds[:, 1], seconds[:, 0])),
        f"{memory / MEBI:,.0f} / {expected / MEBI:,.0f} MiB",
    ]


if __name__ == "__main__":
    main()
