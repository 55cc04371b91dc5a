"""What patching every head at every position of pairs of prompts costs: `python benchmarks/patching.py`.

Gates are left out. Prints the time in plain forward passes over the same prompts, beside the bound that the plan's own
matrix products give (their multiplications over those of a plain forward pass, which does hardly anything else), the
forward passes that hooks would need, one for each patch and one for each run, and the peak memory of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from measuring import MEBI, Work, alternate, peaks, ratio
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from scrub import Examples, Settings, load_model, prompt_pairs
from scrub.measure.interventions.intervention import feed
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.sites import heads, read_sites
from scrub.paths.sources import X, Y
from scrub.study.draws import pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import UNSCRUBBED, Experiments, build
from scrub.study.metric import LOSS
from scrub.training.loss import Objective


def pairs_of(model: Model, count: int, length: int) -> Examples:
    """Corrupted prompts, whose others are the clean ones that are patched in."""
    return prompt_pairs(model, "random tokens", count, length).swapped()


def plain(name: str, count: int, length: int) -> Work:
    """One forward pass over all prompts, with the loss of every position."""
    model = load_model(name)
    tokens = torch.from_numpy(pairs_of(model, count, length).tokens)
    return partial(Objective(model.graph).token_losses, model.params, tokens)


def patched(name: str, count: int, length: int) -> Work:
    """Every head at every position by itself, on all prompts, to numbers on the host."""
    model = load_model(name)
    pairs = pairs_of(model, count, length)
    every = [
        feed(f"{head}@{at}", read_sites(head, model.graph, model.roles, str(at)), Y).experiment(
            model.graph, model.roles
        )
        for head in heads(model.graph)
        for at in range(pairs.context)
    ]
    of = Experiments(build(UNSCRUBBED, Cut(model.graph)), tuple(every))
    made, pairing = Evaluator(model, of, [LOSS], Settings(progress=False), quiet=True), pair_up(pairs, [X, Y])
    made.check(pairing)
    return partial(made, pairing)


def multiplications(work: Work) -> int:
    """The floating-point operations of a work's products."""
    with FlopCounterMode(display=False) as counted:
        work()
    return int(counted.get_total_flops())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt2-mini")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--length", type=int, default=6, help="words of a draw")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    say = Console(highlight=False).print
    model = load_model(options.model)
    makes = [partial(make, options.model, options.pairs, options.length) for make in (plain, patched)]
    with torch.inference_mode():
        works = [make() for make in makes]
        count = len(heads(model.graph)) * pairs_of(model, options.pairs, options.length).context
        once, whole = (multiplications(work) for work in works)
        seconds = alternate(works, options.repeats)
    cost, bound = ratio(seconds[:, 1], seconds[:, 0]), whole / once
    memory = peaks(makes)
    say(f"{model.name}: {count} patches of {options.pairs} pairs, {options.repeats} rounds")
    say(f"plain forward passes: {cost}; the plan's products alone: {bound:.1f}; with hooks: {count + 2}")
    say(f"over the bound: {cost.value / bound:.2f} [{cost.low / bound:.2f}, {cost.high / bound:.2f}]")
    say(f"peak memory: {memory[1] / MEBI:,.0f} MiB, of a plain forward pass {memory[0] / MEBI:,.0f} MiB")


if __name__ == "__main__":
    main()
