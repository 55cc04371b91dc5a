"""What scores of edges and MIB's ten sizes cost, and how good scores are: `python benchmarks/circuits.py`.

Time is in plain forward passes over the same pairs of prompts, without gates and compiling. Then, for EAP, EAP-IG, both
with recomputed inputs, and the exact cost of each edge: Spearman's correlation with the exact costs, CPR and CMD, each
with its 95 % interval over rows. With `--shape LAYERS,HEADS,D_MODEL,VOCABULARY` it is a GPT-2 of that shape with random
weights, and only the time is looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from measuring import Work, alternate, ratio
from rich.console import Console

from scrub import Attribution, Circuit, Examples, Settings, attribute, faithfulness, load_model, prompt_pairs
from scrub.graph.node import walk
from scrub.measure.circuits.first_order import FirstOrder
from scrub.measure.circuits.units import Edges
from scrub.models.families import gpt2
from scrub.models.model import Model, make_model
from scrub.paths.cut import Cut
from scrub.paths.edges import Edge, by_head, edges_of
from scrub.paths.sources import X, Y
from scrub.study.draws import pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import UNSCRUBBED, Experiments, Name, build
from scrub.study.metric import METRICS, Metric
from scrub.text.numbers import PLAIN
from scrub.training.loss import Objective

METHODS: Mapping[str, Mapping[str, object]] = {
    "EAP": {},
    "EAP, recomputed": {"recomputed": True},
    "EAP-IG, 5 points": {"method": "eap-ig"},
    "EAP-IG, 5 points, recomputed": {"method": "eap-ig", "recomputed": True},
}
QUIET = Settings(progress=False)


def random_gpt2(shape: Sequence[int], positions: int) -> Model:
    """A GPT-2 with random weights."""
    layers, heads, width, vocabulary = shape
    sizes = {"n_layers": layers, "n_heads": heads, "d_model": width, "d_head": width // heads, "d_mlp": 4 * width}
    config = gpt2.Config.model_validate(
        {**sizes, "n_ctx": positions, "vocab_size": vocabulary, "bos_token_id": None, "layer_norm_eps": 1e-5}
    )
    drawn = torch.Generator().manual_seed(0)
    shapes = {str(n.arguments["name"]): n.arguments["shape"] for n in walk([gpt2.lower(config)]) if n.op == "param"}
    params = {name: 0.02 * torch.randn(size, generator=drawn) + float("ln" in name) for name, size in shapes.items()}
    return make_model("random", config, params)


def random_pairs(model: Model, count: int, positions: int) -> Examples:
    """Pairs of random tokens that differ in a third of the positions; the last one is scored."""
    rng = np.random.default_rng(0)
    clean, other = rng.integers(0, model.vocab_size, (2, count, positions + 1))
    other[:, positions // 3 :] = clean[:, positions // 3 :]
    scored = np.zeros((count, positions), dtype=bool)
    scored[:, -1] = True
    return replace(Examples.of(clean, scored), other=other)


def plain(model: Model, examples: Examples) -> Work:
    """One forward pass, with the loss of every position."""
    return partial(Objective(model.graph).token_losses, model.params, torch.from_numpy(examples.tokens))


def scored(model: Model, examples: Examples, metric: Metric, points: int | None, recomputed: bool) -> Work:
    """Scores of all edges, from tokens to numbers on the host."""
    units = Edges(by_head(model.graph)).units(model)
    made = FirstOrder(model, units, metric, examples.context, points, recomputed)
    pairing = pair_up(examples, [X, Y])
    return lambda: [made(made.batch(pairing, members)) for members in pairing.batches(made.at_once)]


def sized(model: Model, examples: Examples, metric: Metric, circuit: Circuit) -> Work:
    """The model, the empty circuit, and MIB's ten sizes."""
    of = by_head(model.graph)
    sets = {"empty": frozenset[Edge](), **{f"{size.share:g}": size.kept for size in circuit.sizes()}}
    every = tuple(build(Name(name), of, kept=kept) for name, kept in sets.items())
    made = Evaluator(model, Experiments(build(UNSCRUBBED, Cut(model.graph)), every), [metric], QUIET, quiet=True)
    pairing = pair_up(examples, [X, Y])
    made.check(pairing)
    return partial(made, pairing)


def compared(model: Model, examples: Examples, metric: str) -> dict[str, Attribution]:
    """Attribute by every method, each beside the exact cost of every edge."""
    whole = attribute(None, model, examples, QUIET, metric=metric, check_all=True)
    found = {"EAP": whole}
    for name, how in METHODS.items():
        if name not in found:
            other = attribute(None, model, examples, QUIET, metric=metric, top=1, **how)  # type: ignore[arg-type]
            found[name] = replace(other, checked=whole.checked, exact=whole.exact, top_count=whole.top_count)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratios, and how good the scores are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt2-mini")
    parser.add_argument("--shape", help="LAYERS,HEADS,D_MODEL,VOCABULARY of a random GPT-2 instead")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--kind", default="letters", help="what pairs are made of")
    parser.add_argument("--metric", default="logprob")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    say = Console(highlight=False, width=150).print
    if options.shape:
        model = random_gpt2([int(each) for each in options.shape.split(",")], 15)
        examples, metric = random_pairs(model, options.pairs, 15), METRICS["loss"]
    else:
        model = load_model(options.model)
        examples, metric = prompt_pairs(model, options.kind, options.pairs), METRICS[options.metric]
    edges = edges_of(by_head(model.graph).graph)
    pairs = f"{options.pairs} pairs of {examples.context} tokens"
    say(f"{model.name}: {len(edges):,} edges; {pairs}; {options.repeats} rounds")
    drawn = np.random.default_rng(0).standard_normal(len(edges)).tolist()
    circuit = Circuit.of(model, dict(zip(edges, drawn, strict=True)))
    found: dict[str, Attribution] = {}
    if not options.shape:
        found = compared(model, examples, options.metric)
        circuit = found["EAP"].circuit()
    works = {"plain forward": plain(model, examples), "ten sizes": sized(model, examples, metric, circuit)}
    for name, how in METHODS.items():
        works[name] = scored(model, examples, metric, 5 if "method" in how else None, bool(how.get("recomputed")))
    seconds = alternate(list(works.values()), options.repeats)
    say(f"plain forward pass: {1000 * float(np.median(seconds[:, 0])):.0f} ms; in those:")
    for at, name in enumerate(works):
        if at:
            say(f"  {name}: {ratio(seconds[:, at], seconds[:, 0])}")
    circuits = {name: each.circuit() for name, each in found.items()}
    if found:
        circuits["exact costs"] = found["EAP"].circuit(exact=True)
    for name, each in circuits.items():
        curve = faithfulness(each, model, examples, options.metric, settings=QUIET)
        areas = f"CPR {PLAIN.with_interval(curve.cpr, 3)}, CMD {PLAIN.with_interval(curve.cmd, 3)}"
        ranks = found[name].rank_correlation if name in found else {}
        said = [f"rank correlation over {what} {PLAIN.with_interval(each, 2)}" for what, each in ranks.items()]
        say("; ".join([f"{name}: {areas}", *said]))


if __name__ == "__main__":
    main()
