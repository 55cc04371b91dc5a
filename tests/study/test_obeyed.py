"""A setting that a call doesn't obey is an error, before anything is loaded: never accepted and ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import scrub
from scrub.measure.heads.mechanism import mechanism
from scrub.measure.interventions.effects import measure_effects
from scrub.measure.study.scores import causal_scores, context_sensitivity, read_scores
from scrub.show.charts.heads import study_charts
from scrub.study.evaluate import evaluate
from scrub.study.experiments import Experiments
from scrub.study.settings import COMPUTING, Settings, obeyed

OTHERS: dict[str, Any] = {
    "sequences": 2,
    "draws": 3,
    "parts": ("q",),
    "positions": "repeats",
    "split": "nonsense",
    "column": "nope",
    "context": 20,
    "bos": True,
    "other": "mean",
    "fold": "search",
    "controls": False,
}
# Nothing is in these: what is wrong with the settings is told before they are looked at.
MODEL, STUDY, EXPERIMENTS = (object.__new__(kind) for kind in (scrub.Model, scrub.HeadStudy, Experiments))
ON = scrub.Examples.of(np.zeros((2, 5), int))
CALLS: dict[str, Callable[[Settings], Any]] = {
    "ablate": lambda settings: scrub.ablate(MODEL, ON, settings=settings),
    "patch": lambda settings: scrub.patch(MODEL, ON, settings=settings),
    "study_heads": lambda settings: scrub.study_heads(MODEL, settings=settings),
    "read_scores": lambda settings: read_scores(STUDY, ON, settings=settings),
    "causal_scores": lambda settings: causal_scores(MODEL, ON, settings=settings),
    "context_sensitivity": lambda settings: context_sensitivity(MODEL, ON, settings=settings),
    "study_charts": lambda settings: study_charts(STUDY, settings=settings),
    "mechanism": lambda settings: mechanism(MODEL, ON, ON.scored, (0, 0), settings=settings),
    "measure_effects": lambda settings: measure_effects(MODEL, (), ON, settings=settings),
    "evaluate": lambda settings: evaluate(MODEL, EXPERIMENTS, ON, (), settings),
}


def test_every_field_says_either_how_or_what() -> None:
    assert {*COMPUTING, *OTHERS} == {each.name for each in fields(Settings)}


@pytest.mark.parametrize("field", OTHERS)
@pytest.mark.parametrize("call", CALLS)
def test_what_a_call_does_not_obey_is_told(call: str, field: str) -> None:
    with pytest.raises(scrub.ScrubError, match=rf"^{call} doesn't obey the setting '{field}'.* \(it obeys seed, batch"):
        CALLS[call](Settings(**{field: OTHERS[field]}))


def test_the_defaults_and_what_says_how_are_obeyed() -> None:
    how = Settings(seed=3, batch=2, device="cpu", dtype="float64", progress=False)
    assert obeyed(how, "any") is how
    assert obeyed(None, "any") == Settings()
    assert Settings(sequences=2, seed=3).given == ["sequences", "seed"]
    assert Settings(sequences=2, seed=3).only(COMPUTING) == Settings(seed=3)
    assert Settings(positions=np.array([True])).given == ["positions"]
