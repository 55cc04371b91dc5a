"""A kind of source of one's own: a class, and every rule, gate, drawing and file speaks it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from scrub.paths.rules import Rule
from scrub.paths.sources import Draw, Pool, Rows, Source
from scrub.study.hypothesis import Hypothesis
from scrub.study.pairs import pairs_file
from scrub.study.run import prepare
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

SETTINGS = Settings(sequences=23, dtype="float64", progress=False, positions="all")
RULES = "everything  ** -> next 2\nkeys  a1.ind/k/** -> y\n      a1.ind/k/a0.prev/** -> next 5"


@pytest.fixture(autouse=True)
def kind() -> Iterator[type[Draw]]:
    """The kind exists while a test runs."""

    @dataclass(frozen=True, repr=False)
    class Next(Draw):
        """The sequence so many further on."""

        written = "next COUNT"
        by: int

        @classmethod
        def read(cls, text: str) -> Source | None:
            found = re.fullmatch(r"next (\d+)", text)
            return cls(int(found[1])) if found else None

        def __str__(self) -> str:
            return f"next {self.by}"

        def rows(self, pool: Pool) -> Rows:
            return np.roll(pool.itself(), -self.by)

    yield Next
    Source.kinds.remove(Next)


def test_rules_speak_it(kind: type[Draw]) -> None:
    rule = Rule.parse("a1/k ->  next   3")
    assert (str(rule), rule.source, rule.holds) == ("a1/k -> next 3", kind(3), False)  # type: ignore[call-arg]
    for text in ("next", "next k", "next -1"):
        with pytest.raises(
            ScrubError, match=f"there is no source '{text}': use x, .* or 'next COUNT', and in an interv"
        ):
            Rule.parse(f"a1/k -> {text}")


def test_a_hypothesis_runs_with_it(kind: type[Draw]) -> None:
    trial = prepare(Hypothesis(RULES, name="h", study="induction"), settings=SETTINGS)
    found = trial.run()  # which passes the gates
    assert found.gates.warnings == ()
    tokens = torch.from_numpy(trial.examples.tokens)
    log_p = trial.model(tokens[:, :-1].roll(-2, 0)).log_softmax(-1)
    losses = -log_p.gather(-1, tokens[:, 1:, None])[..., 0]
    assert np.allclose(found.loss["h/everything"], losses.sum(1), rtol=0, atol=1e-9)
    drawn = trial.show("h", "keys").text()
    assert "next 5" in drawn
    assert "next 2" not in drawn
    pairs = load(pairs_file(trial))
    assert np.array_equal(pairs["next 5"], (np.arange(23) + 5) % 23)
    assert set(trial.pairing(0).partners) > {kind(2), kind(5)}  # type: ignore[call-arg]


def test_the_gates_watch_it() -> None:
    trial = prepare(Hypothesis("k  a1.ind/k/** -> next 23", name="h", study="induction"), settings=SETTINGS)
    (warning,) = (text for text in trial.gates().warnings if "itself" in text)  # 23 further on is the same of 23
    assert "'next 23' draws the reference itself in 100% of places" in warning
