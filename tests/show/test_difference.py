"""What changed between two graphs: against the difference of their paths, written out."""

from __future__ import annotations

import time
from functools import cache
from itertools import product
from textwrap import dedent

import drawn
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from small import ROLES, paths, rules, small, small_gpt2, split_roles

from scrub import Hypothesis, Study
from scrub.graph.node import Node, walk
from scrub.paths.difference import Line, difference, lines, plain
from scrub.paths.splits import Split
from scrub.paths.tree import fold_tree
from scrub.show.text import coloured_difference
from scrub.study.experiments import experiments, graphs_alike
from scrub.text.errors import ScrubError

ALL = 10**9  # lines: nothing is left out
Fed = set[tuple[str, str]]


def changed(first: Node, second: Node) -> tuple[Fed, Fed]:
    """The paths of each graph, and what feeds them, that the other doesn't have.

    Left out is what one source feeds in both graphs, under a step that both have, or a component whole.
    """
    every = [paths(graph) for graph in (first, second)]
    fed: list[dict[str, set[str]]] = [{}, {}]
    for found, below in zip(every, fed, strict=True):
        for path, source in found.items():
            for place in places(path):
                below.setdefault(place, set()).add(source)

    def same(path: str) -> bool:
        return any(len(fed[0].get(p, ())) == 1 and fed[0][p] == fed[1].get(p) for p in places(path))

    ours, theirs = ({(p, s) for p, s in found.items() if not same(p)} for found in every)
    return ours - theirs, theirs - ours


@cache
def places(path: str) -> set[str]:
    """What lies above a path: each beginning of it, and each with the last step's component whole."""
    steps = path.split("/")
    whole = {"/".join([*steps[:at], "whole " + step.partition("[")[0]]) for at, step in enumerate(steps)}
    return whole | beginnings(path)


def stands_for(found: list[Line], first: Node, second: Node) -> tuple[Fed, Fed]:
    """The paths that lines with sources stand for, in the first graph and in the second."""
    sides: tuple[Fed, Fed] = (set(), set())
    every = [paths(graph) for graph in (first, second)]
    above: list[tuple[str, ...]] = []
    for line in found:
        above[line.depth :] = [line.steps]
        begins = {"/".join(steps) for steps in product(*above)}
        for fed, feeds, source in zip(sides, every, (line.before, line.after), strict=True):
            there = {path: feeds[path] for path in feeds if source and ("**" in begins or begins & beginnings(path))}
            assert set(there.values()) == ({source} if source else set()), line
            fed.update(there.items())
    return sides


@cache
def beginnings(path: str) -> set[str]:
    steps = path.split("/")
    return {"/".join(steps[:at]) for at in range(len(steps) + 1)}


SPLITS = ['a1.ind/k/a0.prev by mask "previous"', "a1.*/q/a0.self by heads 0", "**/a0.prev by identity"]
SPLITS += ['a1.ind/{q,v}/a0.* by mask "last three"', "**/a1.rest by heads 0", 'a1.ind/v/a0.rest by mask "current"']
RULES = ["a1.ind/**", "**/a0*/v", "a1.ind/k/**", "**/emb", "a1.*/{q,k}/a0.*", "**/a0.self*/**", "a0*/**", "a1*/k/emb"]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Node, Node]:
    """The same model, split and resampled twice."""
    model = draw(st.sampled_from([small(), small_gpt2()]))
    found = []
    for _ in range(2):
        graph = split_roles(model.graph)
        wanted = draw(st.lists(st.sampled_from(SPLITS), max_size=2, unique=True))
        texts = draw(
            st.lists(st.tuples(st.sampled_from(RULES), st.sampled_from(["x", "y", "y", "like f"])), max_size=4)
        )
        for each in wanted:
            if not (each.startswith("a1.ind/k/a0.prev") and "**/a0.prev by identity" in wanted):
                graph = split(graph, each)
        found.append(rules(graph, *(f"{pattern} -> {source}" for pattern, source in texts)))
    return found[0], found[1]


def split(graph: Node, text: str) -> Node:
    try:
        return Split.parse(text).apply(graph, ROLES)
    except ScrubError:  # another split has made parts of it
        return graph


@given(graphs())
def test_lines_stand_for_exactly_the_paths_that_differ(pair: tuple[Node, Node]) -> None:
    found = lines(difference(*pair), ALL)
    event(f"{min(len(found), 20)} lines")
    assert stands_for(found, *pair) == changed(*pair)
    assert bool(found) == (changed(*pair) != (set(), set()))


def test_the_same_graph_has_no_difference() -> None:
    assert lines(difference(drawn.naive(), drawn.naive())) == []
    assert plain(difference(drawn.naive(), drawn.naive())) == ""
    whole = rules(drawn.split(), "a1.ind/k/** -> y")  # which one source feeds, however it is split
    parts = rules(drawn.split("shortformer", 'a1.ind/k/a0.prev by mask "previous"'), "a1.ind/k/** -> y")
    assert whole is not parts
    assert lines(difference(whole, parts)) == []


@pytest.mark.parametrize("more", ["q  a1.ind/q/a0.{3,4}/** -> y", "q  a1.ind/q/a0.prev/** -> y", "q  a1/q/a*.2 -> y"])
@pytest.mark.parametrize("splits", ["", "splits  a1.ind/k/a0.{rest,self} by heads 4"])
def test_heads_that_only_one_hypothesis_names_are_no_difference(more: str, splits: str) -> None:
    study = Study("a1*/** -> y", name="hand")
    rules = "k  a1.ind/k/a0.1/v/** -> y\n   a1.ind/k/a0.self/q/** -> y"
    both = [Hypothesis(rules, name="one"), Hypothesis("\n".join([splits, rules, more]), name="two")]
    own = experiments(study, both, small().graph, ROLES)
    apart = {each.name: each.graph for each in own}
    assert difference(apart["one/k"], apart["two/k"]).children  # only by how their layers are cut
    alike = graphs_alike(study, both, small().graph, ROLES)
    assert not difference(alike["one/k"], alike["two/k"]).children
    assert difference(alike["one/all"], alike["two/all"]).children


def test_a_split_reads_like_a_unified_diff() -> None:
    second = rules(
        drawn.split("shortformer", 'a1.ind/k/a0.* by mask "last three"'),
        *("a1.ind/k/a0.*/** -> y", "a1.ind/k/a0.*[last three]/v/emb -> x"),
    )
    found = plain(difference(drawn.naive("k"), second))
    assert found == dedent(
        """\
        @ a1.ind
        @   k
        ~     emb  y -> x
        -     a0.prev[previous]
        -       q, k  y
        -       v  x
        +     a0.prev[last three], a0.self[last three], a0.rest[last three]
        +       q, k  y
        +       v  x
        -     a0.self, a0.rest  y
        +     a0.self[rest], a0.rest[rest]  y"""
    ).replace("@", " ")


def test_colour_changes_no_character() -> None:
    tree = difference(drawn.naive("k"), drawn.naive("q"))
    assert coloured_difference(tree).plain == plain(tree)
    assert coloured_difference(tree, 3).plain == plain(tree, 3)
    assert {str(span.style) for span in coloured_difference(tree).spans} > {"#e0524d", "#2f86d9"}


def test_rows_say_where_they_are() -> None:
    (top, slot, *rest) = lines(difference(drawn.naive("k"), drawn.split()))
    assert (top.mark, top.path, slot.path, slot.depth) == (" ", "a1.ind", "a1.ind/k", 1)
    assert ("~", "a1.ind/k/{emb,a0.self,a0.rest}", "y", "x") in [(e.mark, e.path, e.before, e.after) for e in rest]
    assert [e.path for e in rest if e.mark == "+"] == ["a1.ind/k/a0.prev"]


@pytest.mark.parametrize("limit", [1, 5, 40])
def test_a_gpt2_of_twelve_layers_is_bounded(limit: int) -> None:
    roles = {name: [(layer, head) for layer in range(12)] for head, name in ((1, "ind"), (3, "prev"))}
    model = split_roles(small_gpt2(n_layers=12).graph, roles)
    second = split(model, "**/a*.ind/k/a*.prev by identity")
    texts = ("**/a*.ind/k/a*.prev/v/** -> y", "**/a*.ind/{q,k}/m*/** -> y")
    began = time.monotonic()
    pair = rules(model, texts[0]), rules(second, *texts, "**/a*.ind/k/a*.prev[identity]/v/** -> x")
    tree = difference(*pair)
    distinct: set[int] = set()
    fold_tree(tree, lambda current, _: distinct.add(id(current)))
    assert len(distinct) < sum(each.label is not None for each in walk(pair))
    shown = plain(tree, limit).splitlines()
    assert 1 <= len(shown) < 1.5 * limit + 2
    assert any("more" in line or "as below" in line for line in shown)
    assert time.monotonic() - began < 20


def test_labels_are_printable() -> None:
    text = plain(difference(drawn.hostile(), rules(drawn.hostile(), "** -> x")))
    assert text.isprintable() or all(line.isprintable() for line in text.split("\n"))
    assert "[bold red]markup[/]" in text
