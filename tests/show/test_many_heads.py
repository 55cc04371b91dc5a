"""Tables of a model of more heads than anybody reads: the first by each score, and what is left out is said."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from scrub.measure.heads.roles import TARGETS, RoleEvidence
from scrub.measure.heads.score import HeadScore, head_name
from scrub.show.tables.heads import SHOWN_HEADS, roles_table, scores_tables
from scrub.text.numbers import Interval

LAYERS, HEADS, FEW = 13, 7, 3  # 91 heads, on 7 sequences


def scores(names: list[str], on: str, layers: int = LAYERS) -> list[HeadScore]:
    numbers = np.random.default_rng(5).uniform(0, 0.35, (len(names), 7, layers, HEADS))
    return [HeadScore(name, "fraction", "", on, of, np.ones(7, int)) for name, of in zip(names, numbers, strict=True)]


def first(some: list[HeadScore], count: int) -> set[str]:
    """By sorting pairs, not by the table's own."""
    found = set()
    for each in some:
        mean = each.sums.mean(0)
        ordered = sorted(np.ndindex(*mean.shape), key=lambda at: -mean[at])
        found |= {head_name((int(layer), int(head))) for layer, head in ordered[:count]}
    return found


@pytest.mark.parametrize("top", [1, FEW])
def test_scores_of_many_heads_are_the_first_by_each_column(top: int) -> None:
    names = [f"score {at}" for at in range(7)]
    some = scores(names, "text")
    tables = list(scores_tables(some, top))
    assert len(tables) == 2
    for table, columns in zip(tables, (some[:5], some[5:]), strict=True):
        shown = list(table.frame["head"])
        assert set(shown) == first(columns, top)
        assert shown == sorted(shown, key=lambda name: tuple(map(int, name.split("."))))
        assert table.caption.startswith(f"{len(shown)} of {LAYERS * HEADS} heads: the first {top} by each column")


def test_all_heads_of_a_small_model_are_shown() -> None:
    (table,) = scores_tables(scores(["one"], "text", layers=9), 1)
    assert len(table.frame) == 9 * HEADS <= SHOWN_HEADS
    assert table.caption == ""


def test_roles_of_many_heads_are_those_that_have_one_and_the_first_by_each_column() -> None:
    """A head that is just above a threshold has a role, and is shown however many attend more."""
    attention = {
        where: dict(zip(TARGETS, scores(list(TARGETS), where), strict=True))
        for where in ("text", "repeated", "uniform")
    }
    at, previous = (2, 3), attention["text"]["previous"]
    previous.sums[:] = 0.9
    previous.sums[:, at[0], at[1]] = 0.41
    attention["repeated"]["induction"].sums[:, 11, 4] = 0.9  # below which previous-token heads lie
    one = Interval(1.0, 1.0, 1.0)
    measured = RoleEvidence(None, attention, one, {"repeated": (one, one)})  # type: ignore[arg-type]
    assert at in measured.roles()["prev"]
    assert head_name(at) not in first([previous], FEW)
    table = roles_table(measured, FEW)
    shown = set(table.frame["head"])
    columns = [
        *(attention["text"][target] for target in TARGETS),
        attention["repeated"]["induction"],
        attention["uniform"]["induction"],
    ]
    with_one = {head_name(head) for heads in measured.roles().values() for head in heads}
    assert shown == with_one | first(columns, FEW)
    assert table.caption.startswith(f"{len(shown)} of {LAYERS * HEADS} heads")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    assert f"{len(shown)} of {LAYERS * HEADS} heads" in captured.get()
    assert len(measured.content["heads"]) == LAYERS * HEADS  # type: ignore[arg-type]
