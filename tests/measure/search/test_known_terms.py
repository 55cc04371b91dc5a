"""What is measured from terms that are known, against the same lists measured anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from searched import ONE_ENTRY, ROWS, WHOLE, fold_of, model_of, prompts, some, text

from scrub.data.examples import Examples
from scrub.measure.search.fold import Fold
from scrub.measure.search.terms import Terms
from scrub.models.model import Model
from scrub.plan.runner import Runner
from scrub.study.binding import bind
from scrub.study.evaluate import Evaluator
from scrub.study.metric import ROLES as MEASURED

MASKS = {"kinds": ["masks"]}


def drawn(model: Model, rows: int = ROWS) -> Examples:
    """Sequences whose others are drawn."""
    return replace(text(model, rows), other=None)


def seen(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The operations of the leaves that each plan of an evaluator reads."""
    found: list[set[str]] = []
    plan = Evaluator._runner

    def looked_at(*arguments: Any) -> Runner:
        runner = plan(*arguments)
        found.append({leaf.op for leaf in runner.leaves})
        return runner

    monkeypatch.setattr(Evaluator, "_runner", looked_at)
    return found


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize(
    ("kind", "baseline", "metric", "data", "cells"),
    [
        ("attn", ONE_ENTRY, "loss", drawn, {}),
        ("attn", ONE_ENTRY, "kl", drawn, MASKS),
        ("gpt2", WHOLE, "logit_diff", prompts, {"depth": 2}),
        ("llama", WHOLE, "accuracy", prompts, {}),  # of a prompt as a whole
    ],
)
def test_lists_from_known_terms_are_those_computed_anew(
    kind: str, baseline: str, metric: str, data: Any, cells: Any, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(kind)
    draws = 2 if data is drawn else 1  # pairs that come with one are the same in each
    fold = fold_of(baseline, model, data(model), metric, cells=cells, draws=draws, batch=batch)
    made = [fold.cells.experiment(some(fold.cells, 1 + 2 * at, at), f"list {at}") for at in range(3)]
    gates = fold.measure(made).gates
    read = seen(monkeypatch)
    anew = fold.measure(made, gates).sums
    assert fold.terms.known
    assert not any("given" in leaves for leaves in read)
    read.clear()
    known = fold.measure(made, gates, known=True).sums
    assert read
    assert all("given" in leaves for leaves in read)
    for role in MEASURED[:2]:
        for each in made:
            np.testing.assert_allclose(known[role, each.name], anew[role, each.name], rtol=0, atol=1e-11)


def test_known_terms_of_some_examples_in_any_order() -> None:
    model = model_of("attn")
    fold = fold_of(ONE_ENTRY, model, drawn(model, 7), draws=2)
    for pairing in fold.pairings:
        for members in (np.array([4, 1, 6]), np.array([5]), pairing.order[2:5], pairing.order):
            found = fold.terms.of(pairing, members)
            assert found
            runner = fold.terms.runner({str(at): node for at, node in enumerate(fold.terms.known)})
            anew = runner(bind(runner.leaves, pairing, members)[0])
            for at, leaf in enumerate(fold.terms.known.values()):
                torch.testing.assert_close(found[leaf], anew[str(at)], rtol=0, atol=1e-12)


def test_where_there_is_no_room_they_are_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("attn")
    fold = fold_of(ONE_ENTRY, model, text(model))
    made = [fold.cells.experiment(some(fold.cells, 2), "list")]
    anew = fold.measure(made)
    monkeypatch.setattr("scrub.measure.search.terms.BYTES_KEPT", 1)
    read = seen(monkeypatch)
    full: Fold = fold_of(ONE_ENTRY, model, text(model))
    assert not Terms(full.cells, full.pairings, full.trial.settings).known
    found = full.measure(made, anew.gates, known=True).sums
    assert not any("given" in leaves for leaves in read)
    np.testing.assert_allclose(found[MEASURED[0], "list"], anew.sums[MEASURED[0], "list"], rtol=0, atol=1e-12)
