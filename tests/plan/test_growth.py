"""How experiments on GPT-2 grow with its depth: with what the rules tell apart, never with the number of paths.

A model of L layers has N = a + bL nodes, but more than 4^L paths. Rules are an automaton of S states, which their text
determines, not the model. A graph that they resample is the product of both, so it has at most S N nodes; and where
they speak of every layer alike, each further layer adds the same number of nodes and of plan steps.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import pytest
from small import split_roles

from scrub.graph.node import Node, unroll, walk
from scrub.models.families import gpt2
from scrub.paths.locate import locate
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule, resample
from scrub.plan.plan import compile_plan
from scrub.study.metric import divergence, losses

XL = 48  # layers of the largest GPT-2
DEPTHS = (4, 8, 12)
ALIKE = {  # rules that speak of every layer alike
    "none": [],
    "keys": ["**/a*.ind/k/** -> y"],
    "edge": ["**/a*.ind/k/a*.prev/v/** -> y"],
    "detour": ["**/a*.ind/k/**/a*.prev/v/** -> y"],
    "naive": ["**/a*.ind/k/** -> y", "**/a*.ind/k/a*.prev/v/** -> x"],
    "mlps": ["**/m*/a*.ind/** -> y", "**/a*.ind/q/m*/** -> x"],
    "embedding": ["**/a*.ind/{q,k}/**/emb -> like f", "**/a*.prev/v/emb -> y"],
}
LAST = ["aLAST.ind/k/aBEFORE.prev/v/** -> y", "**/aBEFORE.prev/q/m0 -> y"]  # and of a place that moves along


@cache
def model(n_layers: int) -> Node:
    """GPT-2 with two roles in every layer."""
    sizes = {"n_heads": 5, "d_head": 2, "d_model": 10, "d_mlp": 7, "n_ctx": 3, "vocab_size": 11}
    config = gpt2.Config.model_validate({"n_layers": n_layers, "bos_token_id": 0, "layer_norm_eps": 1e-5, **sizes})
    roles = {"ind": [(layer, 0) for layer in range(n_layers)], "prev": [(layer, 1) for layer in range(n_layers)]}
    return split_roles(gpt2.lower(config), roles)


def parsed(texts: Sequence[str], n_layers: int) -> list[Rule]:
    places = {"LAST": n_layers - 1, "BEFORE": n_layers - 2}
    return [Rule.parse(re.sub("LAST|BEFORE", lambda name: str(places[name[0]]), text)) for text in texts]


def nodes(graph: Node) -> int:
    return sum(1 for _ in walk([graph]))


def steps(split: Node, rules: Sequence[Rule]) -> int:
    """Of the plan of an experiment, as a study measures it."""
    scrubbed = resample(split, rules)
    return len(compile_plan({"loss": losses(scrubbed), "kl": divergence(scrubbed, split)}).steps)


def labels(graph: Node) -> set[str]:
    return {each.label for each in walk([graph]) if each.label}


def states(rules: Sequence[Rule], steps: set[str]) -> int:
    """How many states all patterns together can reach, counted naively: a product of sets of steps read."""
    start = tuple(rule.pattern.start for rule in rules)
    reached, new = {start}, [start]
    while new:
        here = new.pop()
        after = {tuple(r.pattern.advance(s, label) for r, s in zip(rules, here, strict=True)) for label in steps}
        new += after - reached
        reached |= after
    return len(reached)


def growth(counts: Sequence[int]) -> float:
    """What a layer adds at all of the depths; an assertion fails where it isn't the same."""
    a_layer = {(b - a) / (m - n) for (a, b), (n, m) in zip(pairwise(counts), pairwise(DEPTHS), strict=True)}
    assert len(a_layer) == 1, counts
    return a_layer.pop()


@pytest.mark.parametrize("texts", ALIKE.values(), ids=ALIKE)
def test_every_further_layer_adds_as_many_nodes_and_steps(texts: list[str]) -> None:
    graphs, rules = [model(depth) for depth in DEPTHS], parsed(texts, 0)
    most = states(rules, labels(graphs[-1]))
    assert growth([nodes(resample(graph, rules)) for graph in graphs]) <= most * growth(list(map(nodes, graphs)))
    assert growth([steps(graph, rules) for graph in graphs]) <= most * growth([steps(graph, []) for graph in graphs])


@pytest.mark.parametrize("texts", [*ALIKE.values(), LAST], ids=[*ALIKE, "last"])
def test_a_graph_has_at_most_as_many_nodes_as_the_model_times_the_states_of_its_rules(texts: list[str]) -> None:
    seen = []
    for depth in (*DEPTHS, XL):
        split, rules = model(depth), parsed(texts, depth)
        seen.append(states(rules, labels(split)))
        assert nodes(resample(split, rules)) <= seen[-1] * nodes(split)
    assert len(set(seen)) == 1  # whatever the depth
    assert seen[0] <= 20


def test_a_place_that_moves_along_costs_no_more_than_the_model_twice() -> None:
    """What lies below the edge is computed on x and on y, what lies above it with the edge changed and without."""
    for depth in (*DEPTHS, XL):
        split = model(depth)
        assert steps(split, parsed(LAST, depth)) < 2.2 * steps(split, [])


@pytest.mark.parametrize("texts", ALIKE.values(), ids=ALIKE)
def test_the_work_grows_with_the_nodes(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node is visited once a state, and a pattern reads a step once a state, in GPT-2 XL too."""
    visits, reads = 0, 0
    advance = Pattern._advance

    def visiting(root: Node, state: object, step: object, build: Callable[..., Node], *more: object) -> Node:
        def counted(*at: object) -> Node:
            nonlocal visits
            visits += 1
            return build(*at)

        return unroll(root, state, step, counted, *more)  # type: ignore[arg-type]

    def reading(self: Pattern, *at: object) -> object:
        nonlocal reads
        reads += 1
        return advance(self, *at)  # type: ignore[arg-type]

    split, rules = model(XL), parsed(texts, XL)
    most = states(rules, labels(split))
    monkeypatch.setattr("scrub.paths.rules.unroll", visiting)
    monkeypatch.setattr(Pattern, "_advance", reading)
    rules = parsed(texts, XL)  # anew: these have read nothing yet
    for rule in rules:
        locate(rule.pattern, split)
    resample(split, rules)
    assert visits <= most * nodes(split)
    assert reads <= most * len(labels(split)) * len(rules)
    assert sys.getrecursionlimit() < nodes(split) < 4000
