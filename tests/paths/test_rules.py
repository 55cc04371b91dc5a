"""Rules: parsing, last match wins, what covers what, and which part of the graph stays shared."""

from __future__ import annotations

import pytest
import torch
from small import Small, paths, rules, small

from scrub.graph.node import Node, walk
from scrub.paths.gathered import draws
from scrub.paths.rules import Rule
from scrub.paths.sources import Y
from scrub.text.errors import ScrubError

GROUPS = ("**/a0 by heads prev", "**/a1 by heads ind")


@pytest.fixture(scope="module")
def graph() -> Node:
    return small().split(*GROUPS)


def fed(graph: Node, *texts: str) -> dict[str, str]:
    """Every complete path, and what feeds it, after these rules."""
    return paths(rules(graph, *texts))


@pytest.mark.parametrize(
    "text",
    ["a1.ind/k/** -> y", "** -> x", "a0.prev[last three]/v -> like kind", "a1/{q,k}/** -> rows like typicality"],
)
def test_a_rule_reads_as_it_is_written(text: str) -> None:
    rule = Rule.parse(text)
    assert str(rule) == text
    assert Rule.parse(f"   {text.replace('->', '  ->   ')} ") == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a1/k", "is no rule"),
        ("-> y", "is no rule"),
        ("", "is no rule"),
        ("a1/k -> z", "there is no source 'z'"),
        ("a1/k ->", "there is no source ''"),
        ("a1/k -> like", "there is no source 'like'"),
        ("a1/k -> like 3", "there is no source 'like 3'"),
        ("a1/k -> rows y", "there is no source 'rows y'"),
        ("a1/k -> X", "there is no source 'X'"),
        ("a1//k -> y", "empty step"),
    ],
)
def test_a_bad_rule_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(ScrubError) as caught:
        Rule.parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_feeds_the_paths_that_match_and_no_other(graph: Node) -> None:
    before = paths(graph)
    assert set(before.values()) == {"x"}
    after = fed(graph, "a1.ind/k/a0.prev -> y")
    assert set(after) == set(before)
    assert {path for path, source in after.items() if source == "y"} == {
        path for path in before if path.startswith("a1.ind/k/a0.prev/")
    }


@pytest.mark.parametrize(
    ("texts", "path", "source"),
    [
        # the last that matches wins
        (["** -> y", "** -> x"], "a0.prev/v/emb", "x"),
        (["** -> x", "** -> y"], "a0.prev/v/emb", "y"),
        (["a1.ind/k/** -> y", "a1.ind/k/a0.prev/v/emb -> x"], "a1.ind/k/a0.prev/v/emb", "x"),
        (["a1.ind/k/** -> y", "a1.ind/k/a0.prev/v/emb -> x"], "a1.ind/k/a0.prev/q/emb", "y"),
        # even if the one before it says more of the path
        (["a1.ind/k/a0.prev/v/emb -> x", "a1.ind -> y"], "a1.ind/k/a0.prev/v/emb", "y"),
        (["a1.ind/k/a0.prev/v -> like f", "a1.ind/k -> y", "a1.ind/q -> x"], "a1.ind/k/a0.prev/v/emb", "y"),
        (["a1.ind -> like f", "a1.ind/k/a0.prev -> y", "a1.ind/k -> x"], "a1.ind/k/a0.prev/v/emb", "x"),
        (["a1.ind -> like f", "a1.ind/k/a0.prev -> y", "a1.ind/k -> x"], "a1.ind/q/emb", "like f"),
        # a rule that stops matching on the way leaves the ones before it
        (["a1.ind -> y", "a1.ind/k/a0.rest -> x"], "a1.ind/k/a0.prev/v/emb", "y"),
        (["**/emb -> y", "**/k/emb -> x"], "a1.ind/k/a0.prev/k/emb", "x"),
        (["**/emb -> y", "**/k/emb -> x"], "a1.ind/k/a0.prev/v/emb", "y"),
        # a beginning covers what is below it
        (["a1.ind -> y"], "a1.ind/q/a0.rest/k/emb", "y"),
        (["a1.ind/** -> y"], "a1.ind/q/a0.rest/k/emb", "y"),
        (["**/a0.prev -> y"], "a1.rest/v/a0.prev/v/emb", "y"),
        (["**/a0.prev -> y"], "a1.rest/v/a0.rest/v/emb", "x"),
        # a step follows directly
        (["a0.prev -> y"], "a1.ind/v/a0.prev/v/emb", "x"),
        (["a1.ind/emb -> y"], "a1.ind/v/emb", "x"),
        # the output is the anchor, which may be named, and no step
        (["out -> y"], "emb", "x"),
        (["out/** -> y"], "emb", "y"),
        (["out/a0.prev -> y"], "a0.prev/v/emb", "y"),
        (["out/a0.prev -> y"], "a1.ind/v/a0.prev/v/emb", "x"),
        (["**/out/a0.prev -> y"], "a0.prev/v/emb", "x"),
        ([], "emb", "x"),
    ],
)
def test_what_feeds_a_path(graph: Node, texts: list[str], path: str, source: str) -> None:
    assert fed(graph, *texts)[path] == source


def test_a_rule_that_is_shadowed_changes_nothing(graph: Node) -> None:
    alone = rules(graph, "a1.ind -> y")
    assert rules(graph, "a1.ind/k/a0.prev/v -> like f", "a1.ind -> y") is alone
    assert rules(graph, "** -> y", "** -> x", "a1.ind -> y") is alone


def test_keeping_everything_is_the_unscrubbed_model_to_the_bit(model: Small) -> None:
    split = model.split(*GROUPS, "a1.ind/q/a0.rest by identity")
    for kept in (rules(split), rules(split, "** -> x"), rules(split, "** -> y", "a1.ind -> y", "** -> x")):
        assert kept is split
        assert torch.equal(model.logits(kept), model.logits(split))


def test_keeping_nothing_is_the_model_on_the_other_to_the_bit(model: Small) -> None:
    split = model.split(*GROUPS, 'a1.ind/q/a0.rest by mask "last three"')
    nothing = rules(split, "a1.ind/k -> x", "** -> y")
    assert draws(nothing) == {Y}
    swapped = Small(model.config, model.params, {"x": model.inputs["y"]})
    assert torch.equal(model.logits(nothing), swapped.logits(split))
    baseline = rules(split, "a1.ind -> y")
    assert rules(split, "a1.ind/** -> y", "a1.ind/k/a0.prev -> y") is baseline


def test_where_reference_and_other_are_the_same_every_rule_changes_nothing(model: Small) -> None:
    same = Small(model.config, model.params, {**model.inputs, "y": model.inputs["x"]})
    split = same.split(*GROUPS, 'a1.ind/k/a0.prev by mask "previous"')
    scrubbed = rules(split, "a1.ind -> y", "a1.ind/k/a0.prev[previous]/v -> x")
    torch.testing.assert_close(same.logits(scrubbed), same.logits(split), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("texts", "donors", "gathered"),
    [
        (["a1.ind/{q,k} -> rows like f"], 1, 1),  # with all below it run on the donors
        (["a1.ind/k/a0.prev/{q,k} -> rows like f"], 1, 1),
        (["**/a0.prev/{q,k} -> rows like f"], 1, 1),
        (["a1.ind/{q,k} -> rows like f", "a1.rest/{q,k} -> rows like g"], 2, 2),
        (["a1.ind/{q,k} -> rows like f", "a1.ind/v/a0.prev/{q,k} -> rows like f"], 1, 2),
    ],
)
def test_rows_of_donors_are_gathered_once_from_whole_patterns(
    graph: Node, texts: list[str], donors: int, gathered: int
) -> None:
    order = list(walk([rules(graph, *texts).value]))
    gathers = [each for each in order if each.op == "gather_rows"]
    assert len({each.inputs[1] for each in gathers}) == donors
    assert len(gathers) == gathered
    for each in gathers:
        pattern, donor = each.inputs
        assert pattern.op == "attention_pattern"
        assert not any(inner.op in {"gather_rows", "donor"} for inner in walk([pattern]))
        assert draws(pattern) == {donor.arguments["source"]}


@pytest.mark.parametrize(
    "texts",
    [
        ["** -> rows like f"],
        ["a1.ind/v -> rows like f"],
        ["a1.ind/q -> rows like f"],  # half of a pattern
        ["a1.ind/{q,k} -> rows like f", "a1.ind/k/emb -> x"],
        ["a1.ind/q -> rows like f", "a1.ind/k -> rows like g"],
        ["a1.ind/{q,k} -> rows like f", "a1.ind/k/a0.prev/{q,k} -> rows like g"],  # donors of donors
        ["emb -> rows like f"],
    ],
)
def test_rows_of_donors_feed_whole_patterns_only(graph: Node, texts: list[str]) -> None:
    with pytest.raises(ScrubError, match="no whole attention pattern") as caught:
        rules(graph, *texts)
    assert "\n" not in str(caught.value)
