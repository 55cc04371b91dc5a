"""The shipped study on the shipped model and data tells its story, on few sequences."""

from __future__ import annotations

import numpy as np
import pytest
from story import assert_sound

import scrub
from scrub.measure.heads.roles import measure

SEQUENCES = 12


@pytest.fixture(scope="module")
def result() -> scrub.Result:
    return scrub.run("induction", settings=scrub.Settings(sequences=SEQUENCES, progress=False))


def test_induction_heads_matter_and_every_rule_does_something(result: scrub.Result) -> None:
    assert_sound(result)


def test_refinements_recover_more(result: scrub.Result) -> None:
    for better, worse in [("refined_1", "naive"), ("refined_3", "refined_1"), ("refined_3", "refined_2")]:
        assert result.improvement(f"{better}/all", f"{worse}/all").low > 0, (better, worse)


def test_parts_that_are_declared_alike_recover_alike(result: scrub.Result) -> None:
    for part, hypotheses in {"v": range(1, 6), "q": (4, 5), "k": (2, 4)}.items():
        losses = [result.loss[f"refined_{number}/{part}"] for number in hypotheses]
        assert all(np.array_equal(losses[0], other) for other in losses), part


def test_roles_are_the_measured_ones() -> None:
    model = scrub.load_model("attn2l")
    text = scrub.prepare("induction", model, settings=scrub.Settings(sequences=SEQUENCES)).examples.tokens
    measured = measure(model, text, SEQUENCES)
    assert {role: tuple(heads) for role, heads in measured.roles().items()} == model.roles
    first, second = measured.halves["repeated"]
    assert second.high < first.low - 2


def test_three_roles_whole_recover_and_resample_more_than_a_little_of_all_heads() -> None:
    """What a search found of the shipped model."""
    settings = scrub.Settings(sequences=SEQUENCES, parts=("all",), progress=False)
    found = scrub.run(["induction/refined_1", "induction/roles"], settings=settings).frame()
    by_hand, searched = (found[(found.hypothesis == n) & (found.part == "all")].iloc[0] for n in ("refined_1", "roles"))
    assert searched.recovered > by_hand.recovered
    assert searched.scrubs > by_hand.scrubs
