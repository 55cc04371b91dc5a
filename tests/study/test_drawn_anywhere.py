"""Draws for each position that are of any position: which are, who is drawn, and what comes of it, in plain torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from oracle import Oracle
from project import N_CTX, tiny_model
from safetensors.numpy import load
from scipy import stats
from small import KINDS, small, small_decoder, small_gpt2

import scrub
from scrub.data.examples import Examples
from scrub.graph.node import Node, walk
from scrub.paths.anywhere import resample_anywhere
from scrub.paths.rules import Rule
from scrub.paths.sources import Drawn, Source, X
from scrub.paths.splits import Split
from scrub.study.draws import pair_up
from scrub.study.hypothesis import Hypothesis
from scrub.study.looks import few_of
from scrub.study.pairs import pairs_file
from scrub.study.settings import Settings
from scrub.study.statistics import Bootstrap, recovered
from scrub.text.errors import GateError, ScrubError

LENGTH = 5


def token(tokens: np.ndarray, _: object) -> np.ndarray:
    return np.asarray(tokens)


def previous(tokens: np.ndarray, _: object) -> np.ndarray:
    return np.concatenate([np.full_like(tokens[:, :1], -1), tokens[:, :-1]], axis=1)


FEATURES: dict[str, Any] = {"token": token, "previous": previous, "first": lambda tokens, _: tokens[:, 0]}
Q, S = "Q rows like token", "S rows like previous of Q rows like token"


def graph_of(family: str) -> Node:
    if family in {"shortformer", "standard"}:
        return small(family, 2).graph
    return small_gpt2(2).graph if family == "gpt2" else small_decoder(family, 2).graph


ROTARY = next(name for name in KINDS if name == "llama")
FREE = [
    ("shortformer", "a1/q/*/** -> Q", True),  # terms of the stream, of embeddings and of heads
    ("shortformer", "a1/v/** -> Q", True),
    ("shortformer", "a0/** -> Q", True),  # where a head looks depends on positions, what it writes has none
    ("shortformer", "a1/q/** -> Q", False),  # with the position in it
    ("shortformer", "a1/k/** -> Q", False),
    ("standard", "a1/v/** -> Q", False),
    ("standard", "a1/v/emb -> Q", False),  # beside which the stream has positions
    ("gpt2", "a1/v/emb -> Q", False),
    ("gpt2", "m0/** -> Q", False),
    (ROTARY, "a1/v/** -> Q", True),
    (ROTARY, "a1/q/** -> Q", False),
    (ROTARY, "m1/** -> Q", True),
    ("encoder", "a1/v/** -> Q", False),
    ("encoder", "a1/mask -> Q", False),
]


def drawn_in(graph: Node) -> set[str]:
    return {str(leaf.arguments["source"]) for leaf in walk([graph]) if leaf.op == "donor"}


def rules_of(text: str, named: dict[str, Drawn]) -> list[Rule]:
    return [Rule.parse(line, named) for line in text.split("; ")]


def named(*texts: str) -> dict[str, Drawn]:
    found: dict[str, Drawn] = {}
    for text in texts:
        made = Drawn.declared(text, found)
        found[made.name] = made
    return found


@pytest.mark.parametrize(("family", "text", "free"), FREE)
def test_a_draw_is_of_any_position_where_the_stream_carries_none(family: str, text: str, free: bool) -> None:
    (rule,), graph = resample_anywhere(graph_of(family), rules_of(text, named(Q)))
    assert isinstance(rule.source, Drawn)
    assert rule.source.anywhere is free
    assert drawn_in(graph) == {"Q rows anywhere like token" if free else Q}
    assert {len(each.inputs) for each in walk([graph]) if each.op == "gather_rows"} == {3 if free else 2}


def test_what_is_taken_of_some_positions_knows_them() -> None:
    graph = Split.parse("a1/v/a0 by positions 1..2").apply(graph_of("shortformer"), {})
    made = resample_anywhere(graph, rules_of("a1/v/a0[1..2]/** -> Q", named(Q)))[1]
    assert drawn_in(made) == {Q}


NESTED = [
    # each of any position; of one that itself feeds nothing; at its own position, of one that is of any
    ("a1/v/*/** -> Q; a1/v/a0/** -> S", {"S rows anywhere like previous of Q rows anywhere like token"}),
    ("a1/v/** -> S", {"S rows anywhere like previous of Q rows anywhere like token"}),
    ("a1/q/** -> S", {S}),
    ("a1/v/** -> Q; a1/q/** -> S", "'S' feeds values that are told their position, so it is of the same one, and 'Q'"),
    ("a1/{q,v}/** -> Q", "the draw 'Q' feeds values that are told their position"),
    ("a1/q/** -> Q; a1/v/** -> S", {"S rows anywhere like previous of Q rows like token"}),
]


@pytest.mark.parametrize(("text", "said"), NESTED)
def test_draws_of_draws_and_those_that_cannot_be_both(text: str, said: set[str] | str) -> None:
    graph, rules = graph_of("shortformer"), rules_of(text, named(Q, "S rows like previous of Q"))
    if isinstance(said, set):
        found = drawn_in(resample_anywhere(graph, rules)[1])
        assert {each for each in found if each.startswith("S")} == said
        return
    with pytest.raises(ScrubError, match=said) as told:
        resample_anywhere(graph, rules)
    assert "\n" not in str(told.value)


def test_nobody_writes_it() -> None:
    with pytest.raises(ScrubError, match="is no draw"):
        Drawn.declared("Q rows anywhere like token", {})
    text = "S rows anywhere like previous of Q rows like token"
    assert str(Source.parse(text)) == text


def test_each_row_and_position_of_a_class_is_drawn_as_often() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 3, (7, LENGTH + 1))
    every = np.tile(rows, (400, 1))  # references, and their own pool: the 7 rows are drawn alike
    sources = ["A like first", "Q rows anywhere like token of A like first"]
    sources.append("S rows anywhere like previous of Q rows anywhere like token of A like first")
    examples = Examples(every, np.ones((len(every), LENGTH), dtype=bool)).first(7 * 300)
    found = pair_up(examples, {X, *map(Source.parse, sources)}, FEATURES, None, 0)
    a, q, s = (found.partners[Source.parse(each)] for each in sources)
    of_q, of_s = (found.places[Source.parse(each)] for each in sources[1:])
    inputs, before = every[:, :-1], previous(every[:, :-1], None)
    assert (inputs[q, of_q] == inputs[a]).all()
    assert (before[s, of_s] == before[q, of_q]).all()
    for value in range(3):
        there = rows[:, :-1].ravel() == value
        counts = np.bincount((q % 7 * LENGTH + of_q)[inputs[a] == value], minlength=7 * LENGTH)
        assert (counts[~there] == 0).all()
        assert stats.chisquare(counts[there]).pvalue > 1e-4
    # the row above says which class, not x; and each position has a lot of its own
    own = found.drew_itself(Source.parse(sources[1]))
    assert (own == ((q == np.arange(len(q))[:, None]) & (of_q == np.arange(LENGTH)))).all()
    assert (found.all_itself.partners[Source.parse(sources[1])] == np.arange(len(q))[:, None]).all()
    assert found.all_itself.drew_itself(Source.parse(sources[1])).all()


def test_a_feature_must_be_one_of_a_row_alone_here_too() -> None:
    rows = np.random.default_rng(0).integers(0, 6, (40, LENGTH + 1))
    odd = lambda tokens, _: np.arange(len(tokens))[:, None] % 2 + np.zeros_like(tokens)  # noqa: E731
    draw = Source.parse("A rows anywhere like odd")
    with pytest.raises(GateError, match="must be a function of a row alone"):
        pair_up(Examples(rows, np.ones((40, LENGTH), bool)), {X, draw}, {"odd": odd})


RULES = """
draws  Q  rows like token
       K  rows like previous
       V  rows like token of Q
q      a1.ind/q/*/**   -> Q
       a1.ind/v/*/**   -> Q
       a1.ind/v/emb    -> V
k      a1.ind/k/**     -> K
"""


@pytest.fixture(scope="module")
def trial() -> scrub.Trial:
    rows = np.random.default_rng(3).integers(0, 5, (23, N_CTX + 1))
    claim = Hypothesis(RULES, name="h", features={"token": token, "previous": previous})
    study = scrub.Study("** -> y", (claim,), model="tiny")
    examples = Examples(rows, np.arange(N_CTX) >= np.full((23, 1), 3)).first(17)
    return scrub.prepare(study, tiny_model(), examples, Settings(dtype="float64", batch=5, progress=False))


def test_losses_are_those_of_rows_gathered_by_hand(trial: scrub.Trial) -> None:
    pairing, model, examples = trial.pairing(0), trial.model, trial.examples
    drawn = {str(source): source for source in pairing.partners if isinstance(source, Drawn)}
    free, own = "Q rows anywhere like token", "K rows like previous"
    both = f"V rows anywhere like token of {free}"
    assert set(drawn) == {free, own, both}
    tokens = torch.from_numpy(pairing.pool[:, :-1])
    inputs = {"x": torch.from_numpy(examples.inputs)} | dict.fromkeys(drawn, tokens)
    inputs |= {f"donor {name}": torch.from_numpy(pairing.partners[of]) for name, of in drawn.items()}
    inputs |= {f"drawn_at {of}": torch.from_numpy(np.array(at)) for of, at in pairing.places.items()}
    rules = [("a1.ind/q/emb", free), ("a1.ind/q/a0/**", free), ("a1.ind/v/*/**", free), ("a1.ind/v/emb", both)]
    at = type("At", (), {"config": model.config, "params": model.params, "inputs": inputs})
    frame = trial.token_losses("h/q", "h/k", "h/all")
    sequence, position = examples.scored.nonzero()
    target = torch.from_numpy(examples.following)[..., None]
    for name, of in (("h/q", rules), ("h/k", [("a1.ind/k/**", own)]), ("h/all", [*rules, ("a1.ind/k/**", own)])):
        splits = [("**/a1", "heads", ["ind"])]
        logits = Oracle(at, {"ind": [(1, 2), (1, 3)]}, splits, of).logits()
        losses = -logits.log_softmax(-1).gather(-1, target)[..., 0].numpy()[sequence, position]
        np.testing.assert_allclose(frame[name], losses, atol=1e-9)
    places = [pairing.places[drawn[name]] for name in (free, both)]
    assert all((each != np.arange(N_CTX)).mean() > 0.5 for each in places)


def test_what_the_other_positions_recover_is_said(trial: scrub.Trial) -> None:
    result, pairing, examples = trial.run(), trial.pairing(0), trial.examples
    (said,) = [note for note in result.notes if note.startswith("h draws")]
    frame = trial.token_losses("h/k", "baseline", "unscrubbed")
    (k,) = [source for source in pairing.partners if str(source).startswith("K")]
    own = (pairing.partners[k] == np.arange(len(examples))[:, None])[examples.scored]
    others = frame[~own]
    loss = [np.bincount(others["sequence"], others[name], 17) for name in ("h/k", "baseline", "unscrubbed")]
    boot = Bootstrap(np.bincount(others["sequence"], minlength=17), 0, examples.documents)
    percent = boot.interval(recovered(*boot.means(np.stack(loss))))
    assert f"{own.mean():.1%} of K" in said
    (q,) = [source for source in pairing.partners if str(source).startswith("Q")]
    same_row = (pairing.partners[q] == np.arange(len(examples))[:, None])[examples.scored]
    same_place = (pairing.places[q] == np.arange(N_CTX))[examples.scored]
    assert (same_row & ~same_place).any(), "another position of the same row is no draw of itself"
    assert f"{(same_row & same_place).mean():.1%} of Q" in said
    assert f"k {percent} % at {(~own).mean():.1%} of them" in said
    assert "any position of any row and the same position of any row" in said


def test_a_pool_of_values_gives_the_same(trial: scrub.Trial) -> None:
    gates = trial.gates()
    assert any(name.startswith("pool and computed anew") for name in gates.deviations)
    from scrub.study import pool

    losses = trial.run().loss["h/all"]
    kept, pool.MOST_BYTES = pool.MOST_BYTES, 1
    try:
        anew = replace(trial).run().loss["h/all"]
    finally:
        pool.MOST_BYTES = kept
    np.testing.assert_allclose(losses, anew, atol=1e-9)


def test_the_chance_of_itself_is_among_all_positions(trial: scrub.Trial) -> None:
    said = {each.feature: each for each in trial.classes()}
    rows = trial.examples.every.inputs
    count = np.bincount(rows.ravel())[rows]
    assert said["token"].itself == pytest.approx((1 / count).mean())  # by draws of any position
    before = previous(rows, None)
    there = np.array([[(before[:, at] == before[row, at]).sum() for at in range(N_CTX)] for row in range(len(rows))])
    assert said["previous"].itself == pytest.approx((1 / there).mean())  # K's is its own position


def test_what_the_gates_look_at_stands_in_for_itself_where_few_are_computed(trial: scrub.Trial) -> None:
    pairing = trial.pairing(0)
    few = few_of(pairing)
    for source, at in few.places.items():
        drawn, itself = few.partners[source], np.arange(17)[:, None]
        changed = pairing.partners[source] != drawn
        assert changed.any()
        assert (drawn == itself)[changed].all()
        assert (at == np.arange(N_CTX))[changed].all()
        kept = ~changed & (drawn != itself)
        assert np.array_equal(at[kept], pairing.places[source][kept])


def test_the_pairs_say_where_each_row_stands(trial: scrub.Trial) -> None:
    arrays = load(pairs_file(trial))
    assert {name for name in arrays if name.startswith("positions of")} == {
        f"positions of {source}" for source in trial.pairing(0).places
    }
    q = "Q rows anywhere like token"
    (own,) = (at for source, at in trial.pairing(0).places.items() if str(source) == q)
    assert np.array_equal(arrays[f"positions of {q}"], own)
