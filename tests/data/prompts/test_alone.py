"""A batch of unequal prompts gives, for every metric, what each prompt gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from project import tiny_model
from small import split_roles

import scrub
from scrub.measure.predictions import probabilities
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.rules import Rule
from scrub.study.evaluate import evaluate
from scrub.study.experiments import UNSCRUBBED, Experiments, Name, build
from scrub.study.metric import METRICS
from scrub.study.settings import Settings

SETTINGS = Settings(dtype="float64", progress=False, batch=3)
RULES = ("a1.ind/k/** -> y", "a0.prev/v/emb -> y")
VOCABULARY = 31


def drawn(rng: np.random.Generator, length: int) -> dict[str, Any]:
    """A pair of random tokens, of which the corrupted one may be longer, with one to four answers of either kind."""
    clean = rng.integers(1, VOCABULARY, length).tolist()
    other = [*clean, *rng.integers(1, VOCABULARY, rng.integers(0, 4)).tolist()]
    at = rng.integers(len(clean))
    other[at] = 1 + (clean[at] - 1 + rng.integers(1, VOCABULARY - 1)) % (VOCABULARY - 1)
    some = rng.permutation(VOCABULARY)[: rng.integers(2, 6)].tolist()
    cut = rng.integers(1, len(some))
    return {"clean": clean, "corrupted": other, "answer": some[:cut], "wrong": some[cut:]}


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def experiments(model: Model) -> Experiments:
    split = split_roles(model.graph, model.roles)
    scrubbed = (build(Name(rule), Cut(split), [Rule.parse(rule)]) for rule in RULES)
    return Experiments(build(UNSCRUBBED, Cut(split)), tuple(scrubbed))


def test_pads_change_nothing(model: Model) -> None:
    rng = np.random.default_rng(0)
    table = [drawn(rng, length) for length in (5, 2, 7)]
    of, metrics = experiments(model), list(METRICS.values())
    together = evaluate(model, of, scrub.read_prompts(model, table), metrics, SETTINGS)
    chances = probabilities(model, scrub.read_prompts(model, table))
    for at, row in enumerate(table):
        alone = evaluate(model, of, scrub.read_prompts(model, [row]), metrics, SETTINGS)
        for key, sums in together.sums.items():
            assert abs(sums[at] - alone.sums[key][0]) < 1e-9, key
        assert abs(chances[at] - alone.sums["prob", UNSCRUBBED][0]) < 1e-9


def test_pads_are_counted_in_no_bigram(model: Model) -> None:
    table = [{"clean": [5, 6, 7, 8][: 2 + at], "answer": 3 + at} for at in range(3)]
    found = scrub.read_prompts(model, table, bos="no")
    losses = found.bigram_losses(VOCABULARY)
    wide = scrub.read_prompts(model, [*table, {"clean": list(range(1, 12)), "answer": 1}], bos="no")
    assert np.allclose(losses[0, :2], wide.some(np.arange(3)).bigram_losses(VOCABULARY)[0, :2])
