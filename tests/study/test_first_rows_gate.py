"""The gate of first rows that are taken from the unscrubbed model, and that of splits which lie below one another."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import torch
from project import tiny_model

import scrub
import scrub.paths.splits
from scrub.graph.node import Node
from scrub.graph.ops import OPS
from scrub.models.model import Model
from scrub.study.draws import Pairing
from scrub.text.errors import GateError

SETTINGS = scrub.Settings(dtype="float64", progress=False)
FIRST = 4


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture
def pairs(model: Model) -> scrub.Examples:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, model.vocab_size, size=(7, model.n_ctx + 1))
    other, scored = tokens.copy(), np.zeros((7, model.n_ctx), dtype=bool)
    other[:, FIRST:-1] = (tokens[:, FIRST:-1] + 3) % model.vocab_size
    scored[:, -2:] = True
    return scrub.Examples(tokens, scored, "pairs", other=other)


def study(*rules: str) -> scrub.Study:
    every = tuple(scrub.Hypothesis(rule, name=f"h{at}", claim="Nothing.") for at, rule in enumerate(rules))
    return scrub.Study("** -> y", every, model="tiny")


def run(model: Model, pairs: scrub.Examples, *rules: str) -> scrub.Result:
    return scrub.run(study(*rules), model, pairs, SETTINGS)


def test_pairs_that_begin_alike_pass_it(model: Model, pairs: scrub.Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = run(model, pairs, "v  a1/v/** -> y")
    assert shared.gates.deviations["first rows shared and computed, float64"] < 1e-12
    monkeypatch.setattr("scrub.study.draws.WORTH_SHARING", 2.0)
    computed = run(model, pairs, "v  a1/v/** -> y")
    assert "first rows shared and computed, float64" not in computed.gates.deviations
    for row, other in zip(shared.table, computed.table, strict=True):
        assert row.loss.estimate == pytest.approx(other.loss.estimate, abs=1e-12)


def test_rows_that_are_not_the_same(model: Model, pairs: scrub.Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: torch.Tensor, rest: torch.Tensor, *, first: int) -> torch.Tensor:
        return torch.cat([x[..., : first + 2, :], rest[..., 2:, :]], -2)

    monkeypatch.setitem(OPS, "join", replace(OPS["join"], run=wrong))
    with pytest.raises(GateError, match="first rows are taken from the unscrubbed model"):
        run(model, pairs, "v  a1/v/** -> y")


def test_more_first_rows_than_are_the_same(
    model: Model, pairs: scrub.Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cached_property(lambda _: FIRST + 2)
    found.__set_name__(Pairing, "first")
    monkeypatch.setattr(Pairing, "first", found)
    with pytest.raises(GateError, match="first rows are taken from the unscrubbed model"):
        run(model, pairs, "v  a1/v/** -> y")


def test_the_plan_that_is_printed_is_that_which_runs(model: Model, pairs: scrub.Examples) -> None:
    trial = scrub.prepare(study("v  a1/v/** -> y"), model, pairs, SETTINGS)
    runs = trial.evaluator()._runner(0, trial.pairing(0)).plan
    assert str(trial.plan()) == str(runs)
    assert "join" in str(runs)


def test_a_wrong_split_below_what_another_hypothesis_cuts(
    model: Model, pairs: scrub.Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = scrub.paths.splits._by_positions

    def broken(whole: Node, positions: str) -> list[Node]:
        part, rest = own(whole, positions)
        return [part, part.labelled(rest.label)]

    monkeypatch.setattr(scrub.paths.splits, "_by_positions", broken)
    cut, below = "v  a1.ind/v/** -> y", "splits a1/k by positions 2..4\nk  a1/k[2..4]/** -> y"
    with pytest.raises(GateError, match="split of h1/k gives another loss than the model"):
        run(model, pairs, cut, below)
