"""Edges and sets of them: against loops over layers, rules one by one, the oracle, and every path by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle
from small import DECODERS, ROLES, Small, paths, random_inputs, random_params, small, small_decoder, small_gpt2

from scrub.graph.node import Node, walk
from scrub.measure.circuits.said import circuit_of
from scrub.measure.circuits.shape import Shape
from scrub.models.families import decoder, gpt2
from scrub.models.model import lower, make_model
from scrub.paths.cut import Cut
from scrub.paths.edges import (
    OUT,
    Edge,
    as_edges,
    as_rules,
    by_head,
    connected,
    drop,
    edges_fed,
    edges_of,
    keep,
    read_edges,
)
from scrub.paths.locate import locate
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule, resample
from scrub.paths.sources import X, Y
from scrub.study.hypothesis import Hypothesis
from scrub.text.errors import ScrubError

PARALLEL = {"neox", "gptj", "phi"}


def every_edge(layers: int, heads: int, *, parallel: bool = False, mlps: bool = True) -> list[Edge]:
    found, written = list[Edge](), ["emb"]
    for at in range(layers):
        own = [f"a{at}.{head}" for head in range(heads)]
        found += [Edge(f"{head}/{slot}", sender) for head in own for slot in "qkv" for sender in written]
        if mlps:
            found += [Edge(f"m{at}", sender) for sender in (written if parallel else written + own)]
        written += [*own, *([f"m{at}"] if mlps else [])]
    return [*found, *(Edge(OUT, sender) for sender in written)]


@cache
def gpt2_cut(layers: int, heads: int) -> Cut:
    return by_head(small_gpt2(layers, n_heads=heads).graph)


CUT = gpt2_cut(2, 3)
EDGES = every_edge(2, 3)
sets_of_edges = st.one_of(
    st.frozensets(st.sampled_from(EDGES)),
    st.frozensets(st.sampled_from(EDGES)).map(lambda gone: frozenset(EDGES) - gone),
    st.randoms(use_true_random=False).map(lambda r: frozenset(e for e in EDGES if r.random() < 0.6)),
)


# which edges there are


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize("layers", [1, 3])
def test_the_edges_of_each_family(name: str, layers: int) -> None:
    found = edges_of(by_head(small_decoder(name, n_layers=layers).graph).graph)
    expected = every_edge(layers, 6, parallel=name in PARALLEL, mlps=name != "arena")
    assert sorted(found) == sorted(expected)
    assert name == "arena" or len(found) == Shape(layers, 6, 11, name in PARALLEL).count


def test_the_edges_of_models_that_are_known() -> None:
    assert sorted(edges_of(CUT.graph)) == sorted(EDGES)
    assert sorted(edges_of(by_head(small().graph, ROLES).graph)) == sorted(every_edge(2, 5, mlps=False))
    assert len(every_edge(12, 12)) == 32_491
    assert len(every_edge(32, 32)) == 1_592_881


@cache
def gpt2_small() -> Cut:
    """The shape of GPT-2 small, but for the widths of everything."""
    sizes = {"n_layers": 12, "n_heads": 12, "n_ctx": 7, "d_head": 2, "d_model": 24, "vocab_size": 13, "d_mlp": 5}
    return by_head(lower(gpt2.Config.model_validate({"bos_token_id": 0, "layer_norm_eps": 1e-5, **sizes})))


def test_a_set_of_32_491_edges_is_one_walk() -> None:
    """What is built is bounded by edges and readers, not by edges times edges; and the nodes are as few."""
    of, every = gpt2_small(), edges_of(gpt2_small().graph)
    assert len(every) == 32_491
    readers = len({edge.reader for edge in every})
    kept = frozenset(every) - frozenset(every[::43])
    asked = 0

    def gone(reader: str, sender: str) -> bool:
        nonlocal asked
        asked += 1
        return (reader, sender) not in kept

    found = drop(of.graph, gone)
    assert found is keep(of.graph, kept)
    assert asked == len(every)
    plain = sum(1 for _ in walk([of.graph]))
    assert sum(1 for _ in walk([found])) < 30 * readers + 2 * plain
    assert read_edges(as_edges(kept), of) == kept


# a set of edges as rules


def one_by_one(root: Node, kept: frozenset[Edge], every: list[Edge]) -> Node:
    patterns = (f"{e.sender}/**" if e.reader == OUT else f"**/{e.reader}/{e.sender}/**" for e in every if e not in kept)
    return resample(root, [Rule(Pattern(text), Y) for text in patterns])


@given(sets_of_edges)
def test_a_set_is_what_its_rules_say(kept: frozenset[Edge]) -> None:
    """The same nodes, whatever says it; and without what lies on no whole path."""
    found = keep(CUT.graph, kept)
    assert found is one_by_one(CUT.graph, kept, EDGES)
    rules = as_rules(CUT.graph, kept)
    assert found is resample(CUT.graph, rules)
    assert len(rules) <= len(EDGES) - len(kept)
    assert found is keep(CUT.graph, connected(kept))
    assert found is drop(CUT.graph, lambda *edge: edge not in kept)


def test_few_rules_say_what_is_dropped_alike() -> None:
    """Of a component that nothing reads, what it reads itself needs no rule; readers and senders alike share one."""

    def said(*gone: str) -> list[str]:
        return [str(rule) for rule in as_rules(CUT.graph, frozenset(EDGES) - read_edges(gone, CUT))]

    assert said() == []
    assert said("**/m0", "m0/*") == ["**/m0/** -> y"]
    assert said("**/a0.1", "**/a0.2") == ["**/{a0.1,a0.2}/** -> y"]
    assert said("a1.{0,1}/{q,k}/{emb,m0}") == ["**/{a1.0,a1.1}/{q,k}/{emb,m0}/** -> y"]
    assert said("a1.*/q/*") == ["**/{a1.0,a1.1,a1.2}/q/** -> y"]
    assert said("out/a0.0", "m1/a0.0") == ["**/m1/a0.0/** -> y", "out/a0.0/** -> y"]
    assert said("out/*")[-1] == "out/** -> y"


@given(sets_of_edges)
def test_connected_edges_are_those_of_whole_paths(kept: frozenset[Edge]) -> None:
    graph = nx.DiGraph([(edge.sender, edge.reader.partition("/")[0]) for edge in kept])
    graph.add_nodes_from(["emb", OUT])
    steps = {step for way in nx.all_simple_paths(graph, "emb", OUT) for step in pairwise(way)}
    assert connected(kept) == {e for e in kept if (e.sender, e.reader.partition("/")[0]) in steps}


@given(sets_of_edges)
def test_paths_are_fed_x_where_all_their_edges_are_kept(kept: frozenset[Edge]) -> None:
    for path, source in paths(keep(CUT.graph, kept)).items():
        assert source == ("x" if kept.issuperset(edges_along(path.split("/"))) else "y")


def edges_along(steps: list[str]) -> Iterator[Edge]:
    reader = OUT
    for step in steps:
        if step in "qkv":
            reader = f"{reader}/{step}"
        else:
            yield Edge(reader, step)
            reader = step


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "phi", "attention"])
def test_sets_by_the_oracle(name: str) -> None:
    """Numbers, by recursion over paths, a rule for each edge that is left out."""
    if name == "gpt2":
        own = small_gpt2(2, n_heads=2, n_ctx=5)
    elif name == "attention":
        own = small(n_heads=3, n_ctx=5)
    else:
        fields = DECODERS[name] | {"n_heads": 2, "n_kv_heads": 2 if name == "phi" else 1, "n_ctx": 5, "d_model": 11}
        sizes = {"n_layers": 2, "d_head": 5, "vocab_size": 13, "d_mlp": 7, "bos_token_id": 0, "layer_norm_eps": 1e-5}
        config = decoder.Config.model_validate({**sizes, **fields})
        own = Small(config, random_params(config, 1), random_inputs(config, 2, batch=3, donors=2, some=2))
    heads = own.config.n_heads
    every = every_edge(2, heads, parallel=name == "phi", mlps=name != "attention")
    of = by_head(own.graph)
    for seed in range(3):
        kept = {edge for at, edge in enumerate(every) if (at * 37 + seed * 11) % 7 > seed}
        splits = [(f"**/a{layer}", "heads", [*map(str, range(heads))]) for layer in range(2)]
        rules = [(str(edge.pattern), "y") for edge in every if edge not in kept]
        expected = Oracle(own, {}, splits, rules).logits()
        found = own.logits(keep(of.graph, kept))
        assert (found - expected).abs().max() < 1e-10
        assert (found - own.logits(own.graph)).abs().max() > 0.01


def test_dropping_at_one_place_of_the_tree() -> None:
    """A reader at its place, as a rule of that whole path says it, and nothing elsewhere."""
    path = ["a1.2", "v", "m0", "a0.1", "k"]

    def advance(place: str, step: str) -> str:
        steps = [*place.split("/")[1:], step]
        return "/".join(["out", *steps]) if steps == path[: len(steps)] else ""

    for depth in (0, 2, 3, 5):
        at = "/".join(["out", *path[:depth]])
        sender = path[depth] if depth < len(path) else "emb"
        found = drop(CUT.graph, lambda *edge, at=at, sender=sender: edge == (at, sender), advance)
        rule = Rule(Pattern("/".join([*path[:depth], sender, "**"])), Y)
        assert found is resample(CUT.graph, [rule])
        assert found is not CUT.graph
    nothing = drop(CUT.graph, lambda reader, _: reader == "out/a1.2/k", advance)
    assert nothing is CUT.graph


# edges as text


def test_edges_are_read_as_patterns() -> None:
    of = by_head(small().graph, ROLES)  # prev is a0.1, self a0.0 and a0.4, ind a1.2 and a1.3

    def read(*texts: str) -> set[str]:
        return {str(edge) for edge in read_edges(texts, of)}

    assert read("a1.3/k/a0.1") == read("a1.3/k/a0.prev") == {"a1.3/k/a0.1"}
    assert read("a1.ind/{q,v}/a0.self") == {f"a1.{h}/{s}/a0.{t}" for h in (2, 3) for s in "qv" for t in (0, 4)}
    assert read("a1.ind/k/a0.rest") == {f"a1.{h}/k/a0.{t}" for h in (2, 3) for t in (2, 3)}
    assert read("out/a1.3", "out/emb") == {"out/a1.3", "out/emb"}
    assert read("out/a1.{3,ind}") == read("out/a1.ind") == {"out/a1.2", "out/a1.3"}
    assert read("out/*") == {"out/emb", *(f"out/a{at}.{h}" for at in (0, 1) for h in range(5))}
    assert read("*/q/emb") == {f"a{at}.{h}/q/emb" for at in (0, 1) for h in range(5)}
    assert read("a1.2+3/k/a0") == {f"a1.{h}/k/a0.{t}" for h in (2, 3) for t in range(5)}
    assert read("**/a0.prev") == {"out/a0.1", *(f"a1.{h}/{s}/a0.1" for h in range(5) for s in "qkv")}
    assert len(read("**")) == len(edges_of(of.graph))
    assert read() == set()


def test_an_alternative_with_a_star_that_means_no_edge_is_a_warning() -> None:
    def warned(text: str) -> tuple[str, ...]:
        return Hypothesis(f"edges {text}").cut(small().graph, ROLES).warnings

    assert warned("out/{a1.*,m*} a1.*/{q,k}/emb") == (
        "the alternative 'm*' of 'out/{a1.*,m*}' means no edge of this model",
    )
    assert warned("**/{emb,m*}") == ("the alternative 'm*' of '**/{emb,m*}' means no edge of this model",)
    assert warned("a1.*/{q,k}/emb") == warned("out/a1.{ind,r*}") == ()


@given(sets_of_edges)
def test_edges_come_back_from_text(kept: frozenset[Edge]) -> None:
    assert read_edges(as_edges(kept), CUT) == kept
    assert read_edges([str(edge) for edge in kept], CUT) == kept
    assert all(Edge.parse(str(edge)) == edge for edge in kept)


WRONG = [
    ("a1.3/k/a0.9", "'a1.3/k/a0.9' is no edge of this model: the nearest there are 'a1.3/k/a0."),
    ("a1.3/a0.1", "'a1.3/a0.1' is no edge"),
    ("a1.3/k", "no edge of this model"),
    ("a0.1/k/a1.3", "no edge of this model"),
    ("out", "'out' is no edge"),
    ("a1.ind/k/a0.{nobody,none}", "no edge of this model"),
    ("a1.3//a0.1", "empty step"),
    ("a1.{3/k/emb", "braces"),
    ("", "empty step"),
    ("out/{a1.0,a9.0}", "'a9.0' is nothing that 'out/{a1.0,a9.0}' could mean: this model has no such edge"),
    ("out/a1.{prev,ind}", "'a1.prev' is nothing that"),
    ("**/{q,k}/{emb,a1.3}", "'a1.3' is nothing that"),
    ("a0.h1->a1.h2<k>", "'a0.h1->a1.h2<k>' is EAP-IG's name of an edge: write a1.2/k/a0.1"),
    ("input->m0", "write m0/emb"),
    ("m1->logits", "write out/m1"),
    ("->", "edges have no sources"),
    ("out/a1.0,", "ends in a comma"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_texts_that_are_no_edge(text: str, says: str) -> None:
    with pytest.raises(ScrubError) as raised:
        read_edges(["out/emb", text], by_head(small().graph, ROLES))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(ScrubError, match="write out/m1"):
        Edge.parse("m1->logits")
    for wrong in ("a1.3", "/a0.1", "out/"):
        with pytest.raises(ScrubError, match="is no edge"):
            Edge.parse(wrong)


def test_a_rule_may_say_that_it_means_what_the_output_reads() -> None:
    def cut(text: str) -> Cut:
        return Hypothesis(f"k  {text}/** -> y").cut(small().graph, ROLES)

    assert len(cut("a0.1").warnings) == 1
    assert "or with 'out/' to mean this one" in cut("a0.1").warnings[0]
    assert cut("out/a0.1").warnings == ()
    split = "splits {}a1.2/k/a0.1 by identity\nk a1.2/k/** -> y"
    alike = (Hypothesis(split.format(of)).cut(small().graph, ROLES).graph for of in ("", "out/"))
    assert next(alike) is next(alike)
    with pytest.raises(ScrubError, match="leave out/ off"):
        locate(Pattern("out/a1.2/k"), small().graph)
    (rule,) = Hypothesis("k  out/a0.1/** -> y").part("all")
    assert rule == Rule.parse("a0.1/** -> y")
    assert str(rule) == str(Rule.parse(str(rule))) == "out/a0.1/** -> y"


# rules that are a set of edges


@given(sets_of_edges, st.booleans())
def test_a_set_comes_back_from_its_rules(kept: frozenset[Edge], each: bool) -> None:
    """Those of it, at least, that lie on whole paths."""
    rules = [Rule(e.pattern, Y) for e in EDGES if e not in kept] if each else as_rules(CUT.graph, kept)
    assert edges_fed(CUT, rules) == connected(kept)


STEPS = ["**", "*", "a1.*", "a1.{0,2}", "a0.1", "a0", "m0", "m*", "q", "{k,v}", "emb"]
some_rules = st.lists(
    st.builds(
        Rule,
        st.lists(st.sampled_from(STEPS), min_size=1, max_size=5).map("/".join).map(Pattern),
        st.sampled_from([X, Y]),
    ),
    max_size=4,
)


def matches(rule: Rule, path: str) -> bool:
    """Whether it matches a path or its beginning, by a regular expression over the whole; of heads by numbers."""
    text = ""
    for step in rule.pattern.text.split("/"):
        one = re.escape(step).replace(r"\*", "[^/]*").replace(r"\{", "(?:").replace(r"\}", ")").replace(",", "|")
        one = r"a0\.\d" if step == "a0" else one
        text += "(?:[^/]+/)*" if step == "**" else f"(?:{one})/"
    return re.match(text, f"{path}/") is not None


@settings(max_examples=100)
@given(some_rules)
def test_rules_are_a_set_of_edges_or_the_one_that_is_none_is_named(rules: list[Rule]) -> None:
    """It feeds the path that is named by y, all of whose edges are on paths fed by x: no set can say that."""
    fed = {
        path: next((str(rule.source) for rule in reversed(rules) if matches(rule, path)), "x")
        for path in paths(CUT.graph)
    }
    kept = {edge for path, source in fed.items() if source == "x" for edge in edges_along(path.split("/"))}
    between = [path for path, source in fed.items() if source == "y" and kept.issuperset(edges_along(path.split("/")))]
    if not between:
        assert edges_fed(CUT, rules) == kept
        return
    with pytest.raises(ScrubError) as raised:
        edges_fed(CUT, rules)
    found = re.fullmatch(r"no set of edges says '(.*) -> y': it feeds (\S+) by y, along edges .*", str(raised.value))
    assert found
    assert found[2] in between
    winner = next(rule for rule in reversed(rules) if matches(rule, found[2]))
    assert (found[1], winner.source) == (winner.pattern.text, Y)


ATTENTION = small(roles=ROLES)
LAST = {head: f"out/a1.{head} a1.{head}/v/emb" for head in range(5)}
SAID = [
    ("q  a1.ind/** -> y", None),
    ("q  ** -> y\n   a1.ind/v/a0.prev/v/emb -> x", "out/a1.2 out/a1.3 a1.2/v/a0.1 a1.3/v/a0.1 a0.1/v/emb"),
    ("splits  **/a1 by heads 3\nq  ** -> y\n   a1.rest/v/emb -> x", f"{LAST[0]} {LAST[1]} {LAST[4]}"),
    ("splits  **/a1 by heads ind 1\nq  ** -> y\n   a1.rest/v/emb -> x", f"{LAST[0]} {LAST[4]}"),
    ("splits  **/a1 by heads ind\nq  ** -> y\n   a1.ind/v/emb -> x", f"{LAST[2]} {LAST[3]}"),
    ("q  ** -> y\n   a1.rest/v/emb -> x", f"{LAST[0]} {LAST[1]} {LAST[4]}"),
    ("q  ** -> like f\nk  ** -> y\n   a1.ind/q/emb -> x", "out/a1.2 out/a1.3 a1.2/q/emb a1.3/q/emb"),
    ("edges  out/a1.ind  a1.ind/q/emb", "out/a1.2 out/a1.3 a1.2/q/emb a1.3/q/emb"),
]


@pytest.mark.parametrize(("rules", "edges"), SAID)
def test_hypotheses_that_are_sets_of_edges(rules: str, edges: str | None) -> None:
    """Names mean the heads that they mean in the hypothesis; rules that others win over say nothing."""
    hypothesis = Hypothesis(rules, features={"f": len} if "like" in rules else {})
    kept = circuit_of(hypothesis, make_model("small", ATTENTION.config, ATTENTION.params)).kept or frozenset()
    every = every_edge(2, 5, mlps=False)
    expected = [e for e in every if not re.match(r"a1\.[23]|out/a1\.[23]", str(e))] if edges is None else edges.split()
    assert sorted(map(str, kept)) == sorted(map(str, expected))
    fed_so = keep(by_head(ATTENTION.graph).graph, kept)
    found = ATTENTION.logits(hypothesis.scrub(ATTENTION.graph, ROLES))
    assert (found - ATTENTION.logits(fed_so)).abs().max() < 1e-10


UNSAID = [
    ("k  a1.ind/k/** -> y\n   a1.ind/k/a0.prev/v/emb -> x", "'a1.ind/k/** -> y': it feeds a1.2/k/a0.1/q/emb by y"),
    ("q  a1.ind/q/a0.prev/k/emb -> y", "'a1.ind/q/a0.prev/k/emb -> y': it feeds a1.2/q/a0.1/k/emb by y"),
    ("q  a1.ind/q/** -> y\nk  a1.ind/k/a0.prev/** -> like f", "'a1.ind/k/a0.prev/** -> like f': what edges leave out"),
    ("q  a1.2/q/** -> rows like f\n   a1.2/k/** -> rows like f", "'a1.2/q/** -> rows like f': what edges leave out"),
    (
        'splits  a1.ind/k/a0.* by mask "previous"\nk  a1.ind/k/** -> y',
        "'a1.ind/k/a0.* by mask \"previous\"': an edge is",
    ),
    ("splits  a1.ind/k/a0.* by positions 3\nk  a1.ind/k/** -> y", "by positions 3': an edge is"),
    ("splits  a1.ind/k/a0.* by identity\nk  a1.ind/k/** -> y", "by identity': an edge is"),
]


@pytest.mark.parametrize(("rules", "says"), UNSAID)
def test_hypotheses_that_are_none(rules: str, says: str) -> None:
    hypothesis = Hypothesis(rules, features={"f": len} if "like" in rules else {})
    with pytest.raises(ScrubError) as raised:
        circuit_of(hypothesis, make_model("small", ATTENTION.config, ATTENTION.params))
    assert "no set of edges says" in str(raised.value)
    assert says in str(raised.value)
