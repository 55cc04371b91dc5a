"""Rules that are read together: what one changes is what a list without it says, and thousands cost little."""

from __future__ import annotations

import re
import time
from itertools import islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import small

from scrub.graph.node import Node, node
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Resampling, Rule, resample
from scrub.paths.sources import Draw, Like, X, Y

PROBE = Like("_probe")
STEPS = ["**", "*", "a1.*", "a1.ind", "a1.rest", "a0.prev", "a0.{prev,rest}", "q", "{k,v}", "emb"]
patterns = st.lists(st.sampled_from(STEPS), min_size=1, max_size=6).map("/".join)
some_rules = st.lists(st.builds(Rule, patterns.map(Pattern), st.sampled_from([X, Y, Like("f")])), max_size=7)


@pytest.fixture(scope="module")
def graph() -> Node:
    return small().split("**/a0 by heads prev", "**/a1 by heads ind")


def by_hand(root: Node, rules: list[Rule]) -> Node:
    """Every path by itself, each rule by a regular expression: the last that matches a part from the output on wins."""

    def matches(rule: Rule, path: tuple[str, ...]) -> bool:
        steps = [re.escape(each).replace(r"\*", "[^/]*") for each in rule.pattern.text.split("/")]
        steps = [re.sub(r"\\\{(.*)\\\}", lambda m: f"(?:{m[1].replace(',', '|')})", each) for each in steps]
        text = "".join("(?:[^/]+/)*" if each == "[^/]*[^/]*" else f"{each}/" for each in steps)
        return re.match(text, "".join(f"{step}/" for step in path)) is not None

    def fed(current: Node, path: tuple[str, ...]) -> Node:
        if current.op == "tokens":
            source: Draw = next((rule.source for rule in reversed(rules) if matches(rule, path)), X)  # type: ignore[assignment]
            return node("tokens", source=source, label=current.label)
        below = ((each, (*path, each.label) if each.label is not None else path) for each in current.inputs)
        return current.with_inputs(tuple(fed(*each) for each in below))

    return fed(root, ())


@given(some_rules)
def test_rules_read_together_are_rules_read_one_by_one(graph: Node, rules: list[Rule]) -> None:
    assert resample(graph, rules) is by_hand(graph, rules)


@given(some_rules)
def test_without_one_rule_and_with_another_source(graph: Node, rules: list[Rule]) -> None:
    found = Resampling(graph, rules, PROBE)
    assert found.graph() is resample(graph, rules)
    for at, rule in enumerate(rules):
        assert found.without(at) is resample(graph, [*rules[:at], *rules[at + 1 :]])
        assert found.probed(at) is resample(graph, [*rules[:at], Rule(rule.pattern, PROBE), *rules[at + 1 :]])


def test_thousands_of_rules_take_seconds(graph: Node) -> None:
    """All of them, and each left out and probed: a whole walk for each would take an hour."""
    slots = ["q", "k", "v", "{q,k}", "{q,v}", "{k,v}", "{q,k,v}", "*", "q*"]
    upper, lower = ["a1", "a1.ind", "a1.rest", "a1.*", "*"], ["a0", "a0.prev", "a0.rest", "a0.*", "a*"]
    rules = [
        Rule(Pattern("/".join(steps)), Y) for steps in islice(product(upper, slots, lower, slots, ["emb", "*"]), 3000)
    ]
    begin = time.process_time()
    found = Resampling(graph, rules, PROBE)
    assert len({found.graph(), *map(found.without, range(3000)), *map(found.probed, range(3000))}) > 1
    assert time.process_time() - begin < 20
