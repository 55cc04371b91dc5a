"""Where patterns match, and the near misses of those that match nothing."""

from __future__ import annotations

import pytest
from small import Small, small

from scrub.graph.node import Node, node
from scrub.paths.cut import cut
from scrub.paths.locate import below, locate
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule
from scrub.text.errors import ScrubError

GROUPS = ("**/a0 by heads prev self", "**/a1 by heads ind")


@pytest.fixture(scope="module")
def graph() -> Node:
    return small().split(*GROUPS, 'a1.ind/k/a0.prev by mask "previous"')


def test_below_is_one_step_further(graph: Node) -> None:
    assert [each.label for each in below(graph)] == ["emb", "a0.prev", "a0.self", "a0.rest", "a1.ind", "a1.rest"]
    ind = below(graph)[4]
    assert [each.label for each in below(ind)] == ["q", "k", "v"]
    keys = ["emb", "a0.prev[previous]", "a0.prev[rest]", "a0.self", "a0.rest"]
    assert [each.label for each in below(below(ind)[1])] == keys
    assert below(below(graph)[0]) == []


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("emb", ["emb"]),
        ("a0.*", ["a0.prev", "a0.rest", "a0.self"]),
        ("a1.ind/k", ["a1.ind/k"]),
        ("a1.ind/k/a0.prev*", ["a1.ind/k/a0.prev[previous]", "a1.ind/k/a0.prev[rest]"]),
        ("a1.ind/{q,v}/a0.prev", ["a1.ind/q/a0.prev", "a1.ind/v/a0.prev"]),
        ("a1.ind/k/a0.prev[previous]/v/emb", ["a1.ind/k/a0.prev[previous]/v/emb"]),
        ("a1.ind/k/**", ["a1.ind/k"]),
    ],
)
def test_the_places_that_a_pattern_matches(graph: Node, pattern: str, places: list[str]) -> None:
    assert sorted(locate(Pattern(pattern), graph)) == places


def test_a_pattern_that_is_not_anchored_matches_everywhere(graph: Node) -> None:
    found = set(locate(Pattern("**/a0.prev"), graph))
    assert found >= {"a0.prev", "a1.ind/q/a0.prev", "a1.rest/k/a0.prev"}
    assert "a1.ind/k/a0.prev" not in found  # it is split there


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("a1.indd/k", ["a1.ind", "a1.rest"]),
        ("a1/k/a0.prev", ["a1.ind", "a1.rest"]),
        ("a2", ["a0.prev", "a1.ind"]),
        ("a1.ind/x/a0.prev", ["a1.ind/q", "a1.ind/k", "a1.ind/v"]),
        ("a1.ind/k/a0.prev/v", ["a1.ind/k/a0.prev[previous]", "a1.ind/k/a0.prev[rest]"]),
        ("a1.ind/k/a0.prev[last]/v", ["a1.ind/k/a0.prev[rest]"]),
        ("a1.ind/q/a0.self/v/em", ["a1.ind/q/a0.self/v/emb"]),
        ("a1.ind/a0.prev", ["a1.ind/q", "a1.ind/k", "a1.ind/v"]),
        ("emb/a0", ["emb"]),
        ("a1.ind/k/a1.ind", ["a1.ind/k/a0.prev[previous]"]),  # nothing reads its own layer
        ("out/a1.ind", ["a1.ind"]),  # the output is where paths begin, and no step
        ("**/a1.ind/k/**/a7", ["a1.ind/k/"]),
    ],
)
def test_a_pattern_that_matches_nothing_names_the_nearest(graph: Node, pattern: str, nearest: list[str]) -> None:
    with pytest.raises(ScrubError) as caught:
        locate(Pattern(pattern), graph)
    message = str(caught.value)
    assert message.startswith(f"the pattern '{pattern}' matches no path: the nearest there are ")
    named = message.rpartition("there are ")[2]
    assert all(f"'{each}" in named for each in nearest), message
    assert named.count("'") <= 6  # three of them
    assert "\n" not in message


def test_in_a_graph_without_steps_nothing_matches() -> None:
    with pytest.raises(ScrubError, match="matches no path"):
        locate(Pattern("**"), node("position"))


@pytest.mark.parametrize("n_layers", [2, 12])
def test_no_pattern_takes_long_to_locate(n_layers: int) -> None:
    """There are 4^12 paths: only the places that the pattern tells apart are visited."""
    deep: Small = small(n_layers=n_layers)
    assert len(locate(Pattern("**/emb"), deep.graph)) < 20 * n_layers
    with pytest.raises(ScrubError, match="matches no path"):
        locate(Pattern("**/k/**/v/**/nothing"), deep.graph)


@pytest.mark.parametrize("pattern", ["**/a0.prev", "a1.ind/k/**", "**/a*.ind/{q,v}", "**/emb"])
def test_whether_a_pattern_matches_takes_one_path(graph: Node, pattern: str) -> None:
    assert locate(Pattern(pattern), graph, once=True) == locate(Pattern(pattern), graph)[:1]
    with pytest.raises(ScrubError, match="matches no path"):
        locate(Pattern(f"{pattern}/m7"), graph, once=True)


def test_whether_heads_of_many_layers_are_there_is_quickly_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep over the heads of 30 layers asks it for each: of all places of a head in layer 0 there are many."""
    deep, looked = small(n_layers=13), [0]

    def counted(here: Node) -> list[Node]:
        looked[0] += 1
        return below(here)

    monkeypatch.setattr("scrub.paths.locate.below", counted)
    rule = Rule.parse("**/a0.3/** -> y")
    assert cut(deep.graph, {}, [rule]).warnings == ()
    asked, looked[0] = looked[0], 0
    locate(Pattern("**/a0"), deep.graph)
    assert 0 < asked < looked[0] / 2
