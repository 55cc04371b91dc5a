"""What ablating and patching every head costs, in plain forward passes over the same sequences, gates left out.

python benchmarks/interventions.py --model gpt2-mini --sequences 8 --repeats 3
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from measuring import Work, alternate, ratio
from rich.console import Console

from scrub import load_model
from scrub.data.examples import Tokens
from scrub.data.for_model import examples_for
from scrub.data.prompts.generate import prompt_pairs
from scrub.graph.node import Node
from scrub.measure.interventions.intervention import ablate_sites, feed
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.rules import held
from scrub.paths.sites import heads, read_sites
from scrub.paths.sources import Source, X, Y, Zero
from scrub.plan.leaves import every_row
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.experiments import UNSCRUBBED, Experiments, build
from scrub.study.held import Averaged, held_values
from scrub.study.metric import LOSS
from scrub.training.loss import Objective


def plain(model: Model, tokens: Tokens) -> Work:
    """One forward pass, with the loss of every position."""
    return partial(Objective(model.graph).token_losses, model.params, torch.from_numpy(tokens))


def experiments(model: Model, source: Source) -> Experiments:
    """The unchanged model, and every head ablated, or fed by the other sequence."""
    found = []
    for name in heads(model.graph):
        sites = read_sites(name, model.graph, model.roles)
        each = feed(name, sites, Y) if source == Y else ablate_sites(name, model.graph, {}, sites=name)
        found.append(each.experiment(model.graph, model.roles))
    return Experiments(build(UNSCRUBBED, Cut(model.graph)), tuple(found))


def together(model: Model, tokens: Tokens, other: Tokens, source: Source, last: bool) -> tuple[Work, int]:
    """All heads in one plan, and its number of values; the loss of the last position, or of all."""
    every = experiments(model, source)
    outputs = every.outputs([LOSS])
    values = held_values(held(each.graph for each in every), model, {(X, ""): Averaged(tokens)})
    positions = tokens.shape[1] - 1
    running = Runner(compile_plan(outputs), model.params, positions, held=values)
    rows, fed = torch.from_numpy(tokens), torch.from_numpy(other)
    selected = torch.arange(positions - 1 if last else 0, positions).expand(len(tokens), -1).contiguous()
    bound: dict[Node, torch.Tensor] = {}
    for leaf in running.leaves:
        if leaf.op == "tokens":
            bound[leaf] = (fed if leaf.arguments["source"] == Y else rows)[:, :-1]
        elif leaf.op in {"target", "selected", "rows"}:
            bound[leaf] = {"target": rows[:, 1:, None], "selected": selected, "rows": every_row(selected)}[leaf.op]
    return partial(running, bound), len(running.plan.steps)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt2-mini")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--context", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, say = load_model(options.model), Console(highlight=False).print
    text = examples_for(model, None, options.sequences, context=min(options.context, model.n_ctx)).tokens
    pairs = prompt_pairs(model, count=options.sequences)
    count = len(heads(model.graph))
    say(f"{model.name}: {count} heads, {options.sequences} sequences, {options.repeats} rounds")
    with torch.inference_mode():
        for name, tokens, other, last in (
            ("prompts, the last position", pairs.swapped().tokens, pairs.tokens, True),
            (f"text of {text.shape[1] - 1} positions, all of them", text, text[::-1].copy(), False),
        ):
            (zero, zeroed), (patch, patched) = (together(model, tokens, other, s, last) for s in (Zero(), Y))
            seconds = alternate([plain(model, tokens), zero, patch], options.repeats)
            for what, at, steps in (("ablating", 1, zeroed), ("patching", 2, patched)):
                cost = ratio(seconds[:, at], seconds[:, 0])
                say(f"{what} every head by itself, {name}: {cost} plain forward passes ({steps} values in the plan)")


if __name__ == "__main__":
    main()
