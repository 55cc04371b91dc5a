"""The heads that words mean, against every head on its own."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from project import INDUCTION, SHIPPED
from small import ROLES, rules, small, small_gpt2, split_roles

from scrub import Hypothesis, ScrubError, load_study
from scrub.graph.node import Node
from scrub.paths.cut import cut, heads_text, meant
from scrub.paths.pattern import Pattern
from scrub.paths.roles import Roles
from scrub.paths.rules import Rule, resample
from scrub.paths.sites import read_sites
from scrub.paths.splits import Split, attention_heads
from scrub.plan.plan import compile_plan

MODEL = small()
HEADS = 5  # of a layer
REST = {0: {2, 3}, 1: {0, 1, 4}}
WORDS = {
    "": None,
    ".prev": {0: {1}},
    ".self": {0: {0, 4}},
    ".ind": {1: {2, 3}},
    ".rest": REST,
    ".*": None,
    "*": None,
    ".{prev,ind}": {0: {1}, 1: {2, 3}},
    ".3": {0: {3}, 1: {3}},
    ".{0,3}": {0: {0, 3}, 1: {0, 3}},
    ".1+4": {0: {1, 4}, 1: {1, 4}},
    ".rest+2": {0: {2, 3}, 1: {0, 1, 2, 4}},
    ".re*": REST,
}


def heads_of(layer: str, word: str) -> set[int]:
    """By the table: the heads of a layer, named `a0`, or `a*`, that a word means in layer 0."""
    by_layer = WORDS[word]
    return set(range(HEADS)) if by_layer is None else by_layer.get(int(layer[1:]), set())


def head_by_head(graph: Node) -> Node:
    """The model with every head on its own, one split by heads after the other."""
    for layer in range(len(attention_heads(graph))):
        graph = Split.parse(f"**/a{layer} by heads {' '.join(map(str, range(HEADS)))}").apply(graph, {})
    return graph


@st.composite
def fed(draw: st.DrawFn) -> list[tuple[str, str, str, str]]:
    """Rules on what a slot of layer 1 reads of layer 0, or on layer 1: (layer, its word, the word below it, source)."""
    words = st.sampled_from(sorted(WORDS))
    return draw(
        st.lists(
            st.tuples(st.sampled_from(["a0", "a1"]), words, words, st.sampled_from(["x", "y", "like f"])),
            min_size=1,
            max_size=4,
        )
    )


@given(fed())
def test_words_mean_heads(drawn: list[tuple[str, str, str, str]]) -> None:
    written, alone = [], []
    for layer, word, lower, source in drawn:
        if layer == "a0":
            text, here = f"a0{word}/v", [f"a0.{head}/v" for head in heads_of("a0", word)]
        else:
            text = f"a1{word}/k/a0{lower}"
            here = [f"a1.{a}/k/a0.{b}" for a in heads_of("a1", word) for b in heads_of("a0", lower)]
        if here:
            written.append(Rule.parse(f"{text} -> {source}"))
            alone += [f"{path} -> {source}" for path in here]
        else:
            with pytest.raises(ScrubError, match="matches no path"):
                cut(MODEL.graph, ROLES, [Rule.parse(f"{text} -> {source}")])
    found = cut(MODEL.graph, ROLES, written, generated=True)
    graph = resample(found.graph, found.rules(written))
    wanted = rules(head_by_head(MODEL.graph), *alone)
    torch.testing.assert_close(MODEL.logits(graph), MODEL.logits(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize("word", sorted(WORDS))
@pytest.mark.parametrize("layer", ["a0", "a1"])
def test_what_a_step_means(layer: str, word: str) -> None:
    number = int(layer[1:])
    assert set(meant(f"{layer}{word}", MODEL.graph, ROLES).get(number, ())) == heads_of(layer, word)


def test_a_layer_is_cut_as_finely_as_words_tell_apart() -> None:
    def labels(*texts: str) -> set[str]:
        found = cut(MODEL.graph, ROLES, [Rule.parse(f"{text} -> y") for text in texts])
        return {label for label in found.names if label.startswith("a0")}

    assert labels("a1.ind/k/**") == {"a0"}
    assert labels("a1/k/a0", "a1/q/a0.*/**") == {"a0"}
    assert labels("a1/k/a0.prev") == {"a0.prev", "a0.self+rest"}
    assert labels("a1/k/a0.1") == {"a0.1", "a0.self+rest"}
    assert labels("a1/k/a0.rest") == {"a0.rest", "a0.prev+self"}
    assert labels("a1/k/a0.self", "a1/q/a0.0") == {"a0.0", "a0.4", "a0.prev+rest"}
    assert labels("a1/k/a0.2") == {"a0.2", "a0.prev+self+3"}


def test_labels_are_patterns_of_what_they_label() -> None:
    found = cut(MODEL.graph, ROLES, [Rule.parse(text) for text in ("a1/k/a0.2 -> y", "a1.3/q/a0.self -> y")])
    for label in found.names:
        of, number = meant(label, MODEL.graph, ROLES), int(label[1])
        read = cut(MODEL.graph, ROLES, [Rule.parse(f"**/{label} -> y")]).read(Pattern(label))
        matched = [name for name in read.names if read.advance(read.start, name)]
        heads = [head for name in matched for head in meant(name, MODEL.graph, ROLES)[number]]
        assert sorted(heads) == sorted(of[number])


@pytest.mark.parametrize("name", INDUCTION)
def test_roles_that_nobody_names_change_nothing(name: str) -> None:
    _, (hypothesis,) = load_study(str(SHIPPED / f"{name}.py"))
    more: Roles = {**ROLES, "dup": [(1, 0)]}
    for part in hypothesis.parts:
        assert hypothesis.scrub(MODEL.graph, more, part).value is hypothesis.scrub(MODEL.graph, ROLES, part).value


@pytest.mark.parametrize("name", INDUCTION)
def test_shipped_hypotheses_compute_what_a_split_into_all_roles_does(name: str) -> None:
    _, (hypothesis,) = load_study(str(SHIPPED / f"{name}.py"))
    for part in hypothesis.parts:
        graph = split_roles(MODEL.graph)
        for split in hypothesis.splits:
            graph = split.apply(graph, ROLES)
        found = hypothesis.cut(MODEL.graph, ROLES)
        texts = [re.sub("typicality", "f", str(rule)) for rule in hypothesis.part(part)]
        mine = resample(found.graph, found.rules(Rule.parse(text) for text in texts))
        wanted = rules(graph, *texts)
        torch.testing.assert_close(MODEL.logits(mine), MODEL.logits(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("rules_text", "named"),
    [
        ("k a1.ind/k/a0.{2,7} -> y", "a0.7"),
        ("k a1.ind/k/{emb,a0.slef} -> y", "a0.slef"),
        ("k a1.ind/{k,kk}/emb -> y", "kk"),
        ("k a1.{ind,dup}/k/emb -> y", "a1.dup"),
        ("k a1.ind/k/a0.prev+9 -> y", "a0.9"),
        ("k **/a1.ind/k/**/{emb,m0} -> y", "m0"),
        ('splits a1.ind/{k,w}/a0 by mask "current"\nk a1.ind/k/** -> y', "w"),
        ("splits a1.ind/k/a0.{prev,9} by heads 1\nk a1.ind/k/** -> y", "a0.9"),
    ],
)
def test_an_alternative_that_matches_nothing_is_an_error_that_names_it(rules_text: str, named: str) -> None:
    with pytest.raises(ScrubError, match=f"'{re.escape(named)}' is nothing that .* could mean"):
        Hypothesis(rules_text).cut(MODEL.graph, ROLES)


def test_an_alternative_for_other_models_is_a_warning() -> None:
    for text in ("**/a*.{ind,dup}/k/** -> y", "**/a1.ind/k/{emb,a*.dup} -> y", "**/a1.ind/k/{emb,m*}/** -> y"):
        (warning,) = cut(MODEL.graph, ROLES, [Rule.parse(text)]).warnings
        assert "matches no path of this model" in warning
        assert re.search(r"'(a\*\.dup|m\*)'", warning)
    assert not cut(MODEL.graph, ROLES, [Rule.parse("**/a*.{ind,prev}/k/** -> y")]).warnings


def test_a_component_that_others_read_too_is_said() -> None:
    model = small_gpt2(n_layers=3).graph
    (warning,) = cut(model, {}, [Rule.parse("m1/** -> y")]).warnings
    assert "'m1/**'" in warning
    assert "read by a2, m2" in warning
    for text in ("**/m1/** -> y", "m2/** -> y", "** -> y"):
        assert not cut(model, {}, [Rule.parse(text)]).warnings


def test_a_part_that_a_pattern_does_not_mean_is_said() -> None:
    split = [Split.parse("a1.ind/k/emb by positions 1..2"), Split.parse('a1.ind/q/a0.prev by mask "current"')]
    for text, part in (("a1.ind/**/emb -> y", "emb"), ("**/a0.prev/v -> y", "a0.prev")):
        (warning,) = cut(MODEL.graph, ROLES, [Rule.parse(text)], split).warnings
        assert f"write '{part}*'" in warning
    for text in ("a1.ind/**/emb* -> y", "a1.ind/q/emb -> y", "**/a0.self/v -> y", "a1.ind/q/a0.prev[current] -> x"):
        assert not cut(MODEL.graph, ROLES, [Rule.parse(text)], split).warnings


def test_heads_that_a_split_names_are_not_rest() -> None:
    found = cut(MODEL.graph, {}, [Rule.parse("**/a0.rest -> y")], [Split.parse("a1/q/a0 by heads 2 4")])
    read = found.read(Pattern("a0.rest"))
    assert [name for name in found.names if read.advance(read.start, name)] == ["a0.rest"]
    assert set(found.names) == {"a0.2", "a0.4", "a0.rest", "a1"}
    again = cut(MODEL.graph, ROLES, [Rule.parse("**/a0.rest -> y")], [Split.parse("a1/q/a0.rest by heads 3")])
    assert "a0.3" in again.names
    assert "a0.rest" in again.names


def test_names_of_heads_are_told() -> None:
    assert heads_text(MODEL.graph, ROLES) == (
        "prev = a0.1; self = a0.0 a0.4; ind = a1.2 a1.3; rest = a0.2 a0.3, a1.0 a1.1 a1.4"
    )
    assert heads_text(MODEL.graph, {}) == "no head has a role"


def test_sites_name_heads_as_rules_do() -> None:
    def heads(text: str) -> set[tuple[int, int]]:
        return set().union(*(site.heads for site in read_sites(text, MODEL.graph, ROLES)))

    assert heads("a0.prev+3") == {(0, 1), (0, 3)}
    assert heads("a0.prev+a1.{2,3}") == {(0, 1), (1, 2), (1, 3)}
    assert heads("a0.rest") == {(0, 2), (0, 3)}
    assert heads("a*.3") == {(0, 3), (1, 3)}
    for wrong in ("a0.{1,9}", "a0.1+9", "a0.ind", "a0.{prev,emb}"):
        with pytest.raises(ScrubError, match="is no site of this model"):
            read_sites(wrong, MODEL.graph, ROLES)
    with pytest.raises(ScrubError, match="can't be told apart"):
        read_sites("a1.ind@3+a1.2@4", MODEL.graph, ROLES)


@given(st.sets(st.sampled_from(["a0.prev", "a0.0", "a1.ind", "a0.rest", "a1.1"]), min_size=1))
def test_a_cut_changes_no_step_of_a_plan(words: set[str]) -> None:
    for model in (small(), small_gpt2(n_layers=2)):
        cut_so = cut(model.graph, ROLES, [Rule.parse(f"**/{word} -> x") for word in words]).graph
        assert cut_so is not model.graph
        assert [step.node for step in compile_plan({"": cut_so}).steps] == [
            step.node for step in compile_plan({"": model.graph}).steps
        ]
