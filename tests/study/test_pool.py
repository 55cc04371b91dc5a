"""The pool: each sequence once, the same numbers with it and without, and no number where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import scrub
from scrub.data.examples import Examples
from scrub.study import pool
from scrub.study.classes import classes_in
from scrub.study.pool import Pool
from scrub.text.errors import GateError

SETTINGS = scrub.Settings(dtype="float64", draws=2, batch=2, progress=False)
FEATURES = {"first": lambda tokens, _: tokens[:, 0] % 2, "token": lambda tokens, _: tokens % 3}
ROWS = """
draws  A like first
       R rows like token of A
out    a1/** -> A
       a1/k/** -> R
k      a1/v/a0.1/** -> any
       a1/v/a0.{0,2}/** -> any
"""


@pytest.fixture
def trial() -> scrub.Trial:
    """Thirty references of forty rows, some of which are alike."""
    rows = np.random.default_rng(0).integers(0, 31, (20, 8))
    rows = rows[np.random.default_rng(1).integers(0, 20, 40)]
    mine = scrub.Hypothesis(ROWS, name="h", features=FEATURES)
    study = scrub.Study("** -> y", (mine,), model="attn2l", positions="all")
    return scrub.prepare(study, data=Examples.of(rows), settings=replace(SETTINGS, sequences=30))


def test_numbers_are_those_without_it(trial: scrub.Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrub.study.read.BYTES_AT_ONCE", 1)  # one sequence after the other fills it
    found = trial.run()
    assert found.gates.deviations["pool and computed anew, float64"] < 1e-12
    monkeypatch.setattr(pool, "MOST_BYTES", 0)
    without = trial.run()
    assert "pool and computed anew, float64" not in without.gates.deviations
    for name, losses in found.loss.items():
        np.testing.assert_allclose(losses, without.loss[name], rtol=0, atol=1e-10)
    assert not np.array_equal(found.loss["h/out"], found.loss["unscrubbed"])


def test_each_sequence_is_computed_once(trial: scrub.Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def counted(model: Any, outputs: Any, tokens: np.ndarray, *more: Any) -> Iterator[Any]:
        seen.extend(map(tuple, tokens[:, :-1].tolist()))
        return read(model, outputs, tokens, *more)

    read = pool.read
    monkeypatch.setattr(pool, "read", counted)
    trial.run()
    seen = seen[1:]  # the first says how large it is
    assert len(seen) == len(set(seen)) > 10


def test_a_wrong_row_of_it_gives_no_number(trial: scrub.Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Pool.__call__
    monkeypatch.setattr(Pool, "__call__", lambda *of: right(*of).roll(1, -2))
    with pytest.raises(GateError, match="reads of the pool is off"):
        trial.run()


def test_what_features_say_of_the_data() -> None:
    rows = np.array([[0, 5], [0, 5], [2, 5], [1, 5], [3, 4], [5, 4], [7, 4], [9, 4]])
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    examples = Examples.of(rows, labels=labels)
    features: Mapping[str, Any] = {
        "odd": lambda tokens, _: tokens[:, 0] % 2,
        "each": lambda tokens, _: tokens,
        "label": lambda _, __, columns: columns["label"],
    }
    odd, each, label = classes_in(features, examples, None)
    assert odd.counts.tolist() == [5, 3]
    assert odd.entropy == pytest.approx(-(5 / 8 * np.log(5 / 8) + 3 / 8 * np.log(3 / 8)))
    assert odd.label == pytest.approx(np.log(2)) == label.of_label
    both = np.array([3, 4, 1]) / 8  # even and 1; odd and 0; odd and 1
    assert odd.of_label == pytest.approx(odd.entropy + np.log(2) + (both * np.log(both)).sum())
    assert odd.itself == pytest.approx(2 / 8)
    assert (each.by_row, each.counts.sum()) == (True, 16)
    # 0 twice, six others alone; 5 and 4 four times each
    assert each.itself == pytest.approx((2 * 0.5 + 6 + 8 * 0.25) / 16)
    assert "fewer than 10" in each.warning
