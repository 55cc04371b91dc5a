"""Draws that a hypothesis declares: what can be said, who is drawn, and what comes of it, against full enumeration.

`full_scrub` is causal scrubbing by its definition: it goes down the draws of a tree, gives every row of the class its
share, and knows nothing of how scrub draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle
from project import tiny_model
from scipy import stats

import scrub
from scrub.data.examples import Examples
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule, resample
from scrub.paths.sources import Like, Source, X
from scrub.paths.splits import Split
from scrub.study.draws import Pairing, check_named, pair_up
from scrub.text.errors import GateError, ScrubError

LENGTH = 5
FEATURES = {
    "first": lambda tokens, _: tokens[:, 0] % 2,
    "last": lambda tokens, _: tokens[:, -1] % 3,
    "token": lambda tokens, _: tokens % 3,
    "column": lambda _, __, columns: columns["kind"],
}
CHAINS = [
    "A like first",
    "B like last of A like first",
    "C any",
    "R rows like token of B like last of A like first",
    "S rows like token of R rows like token of B like last of A like first",
    "E rows any",
    "D like column of A like first",
]


def pairing_of(rows: np.ndarray, references: int, sources: Sequence[str], seed: int = 0) -> Pairing:
    scored = np.ones((len(rows), LENGTH), dtype=bool)
    examples = Examples(rows, scored, columns={"kind": rows[:, 1] % 2}).first(references)
    return pair_up(examples, {X, *map(Source.parse, sources)}, FEATURES, None, seed)


@st.composite
def data(draw: st.DrawFn) -> np.ndarray:
    """Rows of which some stand there several times."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    rows = rng.integers(0, 6, (draw(st.integers(2, 23)), LENGTH + 1))
    return rows[rng.integers(0, len(rows), draw(st.integers(len(rows), 3 * len(rows))))]


@given(data(), st.data())
def test_what_is_drawn_agrees_with_what_is_above_it(rows: np.ndarray, more: st.DataObject) -> None:
    references = more.draw(st.integers(1, len(rows)))
    found = pairing_of(rows, references, CHAINS)
    assert found.pool.tolist() == rows.tolist()
    drawn = {str(source): found.partners[source] for source in found.partners}
    own, at = np.arange(references), np.arange(LENGTH)
    a, b, r, s, e, d = (drawn[CHAINS[which]] for which in (0, 1, 3, 4, 5, 6))
    assert (rows[a][:, 0] % 2 == rows[own][:, 0] % 2).all()
    assert (rows[b][:, LENGTH - 1] % 3 == rows[a][:, LENGTH - 1] % 3).all()  # the last that is read
    assert (rows[r, at] % 3 == rows[b][:, :LENGTH] % 3).all()
    assert (rows[s, at] % 3 == rows[r, at] % 3).all()
    assert (rows[d][:, 1] % 2 == rows[a][:, 1] % 2).all()
    assert e.shape == r.shape
    assert (e >= 0).all()
    assert (e < len(rows)).all()
    # nothing else that is drawn changes what a chain draws, and neither does how many examples there are
    alone = pairing_of(rows, references, [CHAINS[3]])
    assert np.array_equal(alone.partners[Source.parse(CHAINS[3])], r)


def test_each_row_of_a_class_is_drawn_as_often_its_own_too() -> None:
    distinct = np.array([[0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 1, 0], [4, 0, 0, 0, 2, 0], [1, 0, 0, 0, 0, 0]])
    rows = np.concatenate([np.repeat(distinct, [1, 2, 3, 1], axis=0)] * 200)  # the first three are of one class
    found = pairing_of(rows, len(rows), ["A like first", "B like first", "C any", "like first"])
    kind = (rows[:, 0] // 2).astype(int)  # of the class
    even = rows[:, 0] % 2 == 0
    for name, expected in (("A like first", [1, 2, 3]), ("B like first", [1, 2, 3])):
        drawn = found.partners[Source.parse(name)]
        counts = np.bincount(kind[drawn[even]], minlength=3)
        assert stats.chisquare(counts, even.sum() * np.array(expected) / 6).pvalue > 1e-4
    partners = {name: found.partners[Source.parse(name)] for name in ("A like first", "B like first", "C any")}
    assert (partners["A like first"] != partners["B like first"]).mean() > 0.9  # two names, two draws
    assert stats.chisquare(np.bincount(partners["C any"], minlength=len(rows))).pvalue > 1e-4
    each = pairing_of(rows, len(rows), ["E rows any"]).partners[Source.parse("E rows any")]
    for at in range(LENGTH):  # any row at each position, drawn for that alone
        assert stats.chisquare(np.bincount(each[:, at], minlength=len(rows))).pvalue > 1e-4
        assert (each[:, at] == each[:, at - 1]).mean() < 0.02
    # a rule's own `like F` never gives a row itself; a declared draw may, and in a class of one it is all there is
    assert not (found.partners[Like("first")] == np.arange(len(rows))).any()
    alone = pairing_of(distinct, 4, ["A like first"])
    assert alone.partners[Source.parse("A like first")][3] == 3
    many = [
        pairing_of(distinct, 4, ["A like first"], seed).partners[Source.parse("A like first")][0] for seed in range(60)
    ]
    assert set(many) == {0, 1, 2}


def test_any_hangs_on_its_pattern_alone() -> None:
    one, same, other = (Rule.parse(text).source for text in ("a1/** -> any", "a1/**  ->  any", "a1/q/** -> any"))
    assert one == same != other
    assert str(Rule.parse("a1/** -> any")) == "a1/** -> any"
    declared = scrub.Hypothesis("draws A any\nq a1/q/** -> A\n  a1/k/** -> any\n  a1/v/** -> any", name="h")
    sources = [rule.source for rule in declared.parts["all"]]
    assert len(set(sources)) == 3


def test_another_draw_of_the_pairing_and_another_chain_are_other_rows() -> None:
    rows = np.random.default_rng(0).integers(0, 6, (60, LENGTH + 1))
    scored = np.ones((60, LENGTH), dtype=bool)
    sources = {X, *map(Source.parse, ["A like first", "A like last"])}
    one, two = (pair_up(Examples(rows, scored), sources, FEATURES, None, 0, number) for number in (0, 1))
    first, last = (Source.parse(f"A like {feature}") for feature in ("first", "last"))
    assert (one.partners[first] != two.partners[first]).mean() > 0.8
    features = {"first": FEATURES["first"], "last": FEATURES["first"]}  # the same classes by another name
    same = pair_up(Examples(rows, scored), sources, features, None, 0, 0)
    assert (same.partners[first] != same.partners[last]).mean() > 0.8


def test_rows_that_come_with_others_and_have_several_lengths() -> None:
    """Nobody draws the other of an example, nor a row of another length, nor at a pad."""
    rng = np.random.default_rng(0)
    rows, lengths = rng.integers(0, 6, (60, LENGTH + 1)), rng.integers(2, LENGTH + 1, 60)
    scored = np.arange(LENGTH) == lengths[:, None] - 1
    examples = Examples(rows, scored, lengths=lengths, other=rows[::-1].copy(), other_lengths=lengths[::-1].copy())
    found = pair_up(examples, {X, *map(Source.parse, ["C any", "R rows like token"])}, FEATURES)
    whole, each = (found.partners[Source.parse(text)] for text in ("C any", "R rows like token"))
    assert max(whole.max(), each.max()) < 60
    assert (lengths[whole] == lengths).all()
    real = np.arange(LENGTH) < lengths[:, None]
    assert real[each, np.arange(LENGTH)][real].all()


@pytest.mark.parametrize("source", ["A any", "A like first", "like first", "y"])
@pytest.mark.parametrize(("at", "right"), [([2, 2, 3, 3, 2, 3], True), ([2, 2, 3, 3, 4, 5], False)])
def test_rows_with_a_name_elsewhere_are_not_drawn(source: str, at: list[int], right: bool) -> None:
    """Positions with a name are the reference's own: in a row that has it at another one they are something else."""
    rows = np.random.default_rng(0).integers(0, 31, (6, 8))
    scored = np.arange(7) == np.full((6, 1), 6)
    examples = Examples(rows, scored, kind="prompts", positions={"S2": np.array(at)})
    split = Split.parse("a1/k by positions S2").apply(scrub.load_model("attn2l").graph, {})
    graph = resample(split, [Rule(Pattern.parse("a1/k[S2]/**"), Source.parse(source))])
    with nullcontext() if right else pytest.raises(ScrubError, match="S2"):
        check_named(examples, [graph])


def test_columns_are_of_the_rows_that_are_asked_about() -> None:
    rows = np.random.default_rng(0).integers(0, 6, (60, LENGTH + 1))
    some = Examples(rows, np.ones((60, LENGTH), bool), columns={"kind": rows[:, 1] % 2}).first(20)
    found = pair_up(some, {X, *map(Source.parse, ["like column", "A like column"])}, FEATURES).partners
    for donors in (found[Like("column")], found[Source.parse("A like column")]):
        assert (rows[donors][:, 1] % 2 == rows[:20, 1] % 2).all()


def test_a_feature_must_be_one_of_a_row_alone() -> None:
    """One that numbers what it happens to see says something else of the same row among others."""
    rows = np.random.default_rng(0).integers(0, 6, (40, LENGTH + 1))
    odd = lambda tokens, _: np.arange(len(tokens)) % 2  # noqa: E731
    with pytest.raises(GateError, match="must be a function of a row alone"):
        pair_up(Examples(rows, np.ones((40, LENGTH), bool)), {X, Source.parse("A like odd")}, {"odd": odd})


MISTAKES = [
    ("draws A like nothing\nq a1/** -> A", "no feature of the hypothesis"),
    ("draws A like first of B\nq a1/** -> A", "of 'B', and above it stand none"),
    ("draws A any\n  A any\nq a1/** -> A", "stands twice"),
    ("draws x any\nq a1/** -> x", "means something else in a rule"),
    ("draws A of B\nq a1/** -> A", "is no draw"),
    ("draws R rows like token\n  A like first of R\nq a1/** -> A", "one for each position"),
    ("draws R rows any\n  A like first of R\nq a1/** -> A", "one for each position"),
    ("draws R any rows\nq a1/** -> R", "is no draw"),
    ("draws A any\nq a1/** -> B", "there is no draw 'B'"),
    ("draws A any\n  B any\nq a1/** -> A", "'B' feeds no rule"),
    ("draws\nq a1/** -> y", "has nothing behind it"),
    ("q a1/** -> A like first", "declare it in a hypothesis' draws"),
    ("q a1/** -> A any", "declare it in a hypothesis' draws"),
]


@pytest.mark.parametrize(("rules", "said"), MISTAKES)
def test_mistakes_in_draws(rules: str, said: str) -> None:
    with pytest.raises(ScrubError, match=said) as told:
        scrub.Hypothesis(rules, name="h", features=FEATURES)
    assert "\n" not in str(told.value)


NESTED = [
    ("A any\n  B like first of A", "a1/** -> A\n  a1/k/** -> B", None),
    ("A any\n  B like first of A", "a1/k/** -> A\n  a1/k/** -> B", None),  # which wins everywhere
    ("A any\n  B like first of A", "a1/k/** -> B", None),  # A is no node's, so nothing lies beside it
    ("A any\n  B like first of A", "a1/k/** -> A\n  a1/** -> B", "no rule of 'A' speaks of"),
    ("A any\n  M like last of A\n  B like first of M", "a1/q/** -> A\n  a1/k/** -> B", "no rule of 'A' speaks of"),
    ("R rows like token", "a1/k/** -> R\n  a1/k/emb -> y", "other sources feed a part"),
    ("A any\n  R rows like token of A", "a1/q/** -> A\n  a1/k/** -> R", "no rule of 'A' speaks of"),
]


@pytest.mark.parametrize(("draws", "rules", "said"), NESTED)
def test_a_draw_lies_below_that_which_it_is_of(draws: str, rules: str, said: str | None) -> None:
    mine = scrub.Hypothesis(f"draws {draws}\nq {rules}", name="h", features=FEATURES, study="induction")
    if said is None:
        scrub.prepare(mine)
        return
    with pytest.raises(ScrubError, match=said):
        scrub.prepare(mine)


TREES: list[tuple[str, str]] = [
    ("A like first\n  B like last of A", "a1/** -> A\n  a1/k/** -> B"),
    ("A like first\n  B like last of A\n  C any", "a1/q/** -> C\n  a1/v/** -> A\n  a1/v/a0.{0,1}/** -> B"),
    ("A like last\n  B like first", "a1/v/** -> A\n  a1/k/** -> any\n  a1/k/emb -> B"),
]
HEADS = [("**/a0", "heads", ["0", "1"])]  # which rules of these tell apart
SAYS = {"": lambda _: 0, "first": lambda row: row[0] % 2, "last": lambda row: row[-2] % 3}


def full_scrub(draws: Mapping[str, tuple[str, str]], rows: np.ndarray, x: int) -> list[tuple[dict[str, int], float]]:
    """List every way to draw, a row for each name, with its probability: a child agrees with the row above it."""
    ways: list[tuple[dict[str, int], float]] = [({}, 1.0)]
    for name, (feature, of) in draws.items():
        longer = []
        for drawn, share in ways:
            above = rows[drawn[of] if of else x]
            agreeing = [at for at, row in enumerate(rows) if SAYS[feature](row) == SAYS[feature](above)]
            longer += [({**drawn, name: at}, share / len(agreeing)) for at in agreeing]
        ways = longer
    return ways


@pytest.mark.parametrize(("draws", "rules"), TREES)
def test_losses_are_those_of_causal_scrubbing_in_the_mean(draws: str, rules: str) -> None:
    rng = np.random.default_rng(3)
    rows, repeats = rng.integers(0, 31, (6, LENGTH + 1)), 300
    model = tiny_model()
    every = np.tile(rows, (repeats, 1))
    scored = np.zeros((len(every), LENGTH), dtype=bool)
    scored[:, -1] = True
    mine = scrub.Hypothesis(f"draws {draws}\nq {rules}", name="h", features=FEATURES)
    study = scrub.Study("** -> y", (mine,), model="tiny")
    settings = scrub.Settings(dtype="float64", batch=64, progress=False)
    found = scrub.run(study, model, Examples(every, scored), settings).loss["h/all"].reshape(repeats, -1)

    names = {line.split()[0]: (line.split()[2] if "like" in line else "") for line in draws.split("\n  ")}
    of = {line.split()[0]: line.split()[4] for line in draws.split("\n  ") if " of " in line}
    fed = [(text.split(" -> ")[0].strip(), text.split(" -> ")[1]) for text in rules.split("\n")]
    tree = {name: (feature, of.get(name, "")) for name, feature in names.items()} | {
        f"any {pattern}": ("", "") for pattern, source in fed if source == "any"
    }
    oracle_rules = [(pattern, f"any {pattern}" if source == "any" else source) for pattern, source in fed]
    for x in range(len(rows)):
        ways = full_scrub(tree, rows, x)
        tokens = torch.from_numpy(rows[:, :-1])
        inputs = {name: tokens[[drawn[name] for drawn, _ in ways]] for name in tree}
        inputs["x"] = tokens[x].expand(len(ways), -1)
        config = model.config.model_copy(update={"n_ctx": LENGTH})
        params = {name: value[:LENGTH] if name == "pos.weight" else value for name, value in model.params.items()}
        at = type("Small", (), {"config": config, "params": params, "inputs": inputs})
        oracle = Oracle(at, {}, HEADS if "a0." in rules else [], oracle_rules)
        losses = -oracle.logits()[:, -1].log_softmax(-1)[:, rows[x, -1]]
        share = torch.tensor([share for _, share in ways], dtype=torch.float64)
        assert share.sum() == pytest.approx(1)
        mean = float((losses * share).sum())
        spread = float(((losses - mean).square() * share).sum().sqrt())
        assert abs(found[:, x].mean() - mean) < 4 * spread / repeats**0.5 + 1e-9
        # and what comes out is one of the ways, not something between
        assert all(float((losses - each).abs().min()) < 1e-9 for each in found[:5, x])
