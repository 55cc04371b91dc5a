"""A trap that no resampling of paths can spring: what two parts carry besides cancels in their sum.

Heads A write x1 + 2 x3, heads B write x2 - 2 x3 (xi: the token i back), and the sum, x1 + x2, is the next token. That
A carries x1 and B carries x2 is false, though the sum is what it says. The model is made by hand: every head reads one
number at a fixed lag, which it finds by one-hot positions that are added in front of its queries and keys.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import scrub
from scrub.data.examples import Examples
from scrub.study.result import Result

CONTEXT, D_MODEL, D_HEAD = 5, 11, 7
VALUE, OUT, ASIDE = 5, 7, 8  # in the residual stream, behind the positions
SUMS = (-2, 0, 2)
NUMBERS = np.array([-1, 1, *SUMS])  # what each token stands for: those that are read, and those that follow
SHARP = 0.25  # of the predictions
SEQUENCES = 5000
A, B = ((1, 1), (3, 2)), ((2, 1), (3, -2))  # lag and times of each of their heads


def by_hand() -> scrub.Model:
    """Two layers: the first has the heads of A and B, what the second writes nothing reads."""
    params = {"embed.weight": torch.zeros(5, D_MODEL), "pos.weight": torch.eye(CONTEXT, D_MODEL)}
    params["embed.weight"][:, VALUE] = torch.from_numpy(NUMBERS).float()
    for layer, writes in enumerate((OUT, ASIDE)):
        weights = {slot: torch.zeros(4, D_HEAD, D_MODEL) for slot in "qkv"} | {"o": torch.zeros(4, D_MODEL, D_HEAD)}
        for head, (lag, times) in enumerate((*A, *B)):
            for at in range(lag, CONTEXT):
                weights["q"][head, at - lag, at] = 300
            weights["k"][head] = torch.eye(D_HEAD, D_MODEL) * (torch.arange(D_MODEL) < CONTEXT)
            weights["v"][head, 0, VALUE] = 1
            weights["o"][head, writes, 0] = times
        params |= {f"layers.{layer}.w{slot}": each for slot, each in weights.items()}
    sums = torch.tensor(SUMS)
    params["unembed.weight"] = torch.zeros(5, D_MODEL)
    params["unembed.weight"][2:, OUT] = SHARP * sums
    params["unembed.bias"] = torch.cat([torch.full((2,), -99.0), -SHARP * sums.square() / 2])
    config = {"architecture": "attention_only", "n_layers": 2, "n_heads": 4, "d_model": D_MODEL, "d_head": D_HEAD}
    config |= {"n_ctx": CONTEXT, "vocab_size": 5, "bos_token_id": None, "positions": "shortformer", "norm": "none"}
    config |= {"biases": ["unembed"], "layer_norm_eps": 1e-5}
    return scrub.load_model((config, params), torch.float64, name="trap")


def data(count: int) -> Examples:
    rows = np.random.default_rng(7).integers(0, 2, (count, CONTEXT + 1))
    following = NUMBERS[rows[:, -3]] + NUMBERS[rows[:, -4]]  # of one and two back
    rows[:, -1] = 2 + np.searchsorted(SUMS, following)
    return Examples(rows, np.arange(CONTEXT) == np.full((count, 1), CONTEXT - 1))


def back(*lags: int) -> Any:
    """The feature that says what stands so far back."""
    return lambda tokens, _: sum(tokens[:, CONTEXT - 1 - lag] << at for at, lag in enumerate(lags))


FEATURES = {"x1": back(1), "x2": back(2), "x1_x3": back(1, 3), "x2_x3": back(2, 3)}
REST = "a1/** -> y\n  emb -> y\n  "
CLAIMS = {
    "paths": f"all_else {REST}",
    "one_each": f"draws A like x1\n  B like x2\nall_else {REST}a0.{{0,1}}/** -> A\n  a0.{{2,3}}/** -> B",
    "with_the_third": f"draws A like x1_x3\n  B like x2_x3\nall_else {REST}a0.{{0,1}}/** -> A\n  a0.{{2,3}}/** -> B",
}


@pytest.fixture(scope="module")
def found() -> Result:
    claims = tuple(
        scrub.Hypothesis(rules, name=name, features={k: v for k, v in FEATURES.items() if f"like {k}\n" in rules})
        for name, rules in CLAIMS.items()
    )
    study = scrub.Study("** -> y", claims, model="trap")
    return scrub.run(study, by_hand(), data(SEQUENCES), scrub.Settings(dtype="float64", batch=1000, progress=False))


def loss(written: int, following: int) -> float:
    """The loss of a sum where the heads write another."""
    logits = SHARP * (np.array(SUMS) * written - np.square(SUMS) / 2)
    return float(np.log(np.exp(logits).sum()) - logits[SUMS.index(following)])


def expected() -> tuple[float, float, float]:
    """The losses of the model, of the baseline, and of what is false, over all that there can be."""
    own = np.mean([loss(a + b, a + b) for a, b in product((-1, 1), repeat=2)])
    other = np.mean([loss(c + d, a + b) for a, b, c, d in product((-1, 1), repeat=4)])
    false = np.mean([loss(a + 2 * c + b - 2 * d, a + b) for a, b, c, d in product((-1, 1), repeat=4)])
    return float(own), float(other), float(false)


def test_the_model_is_as_it_says(found: Result) -> None:
    own, other, _ = expected()
    rows = data(SEQUENCES).tokens
    every = np.mean([loss(s, s) for s in NUMBERS[rows[:, -1]]])
    assert found.interval("loss", "unscrubbed").estimate == pytest.approx(every, abs=1e-9)
    assert found.interval("loss", "unscrubbed").estimate == pytest.approx(own, abs=0.02)
    assert found.interval("loss", "baseline").estimate == pytest.approx(other, abs=0.03)


def test_paths_alone_cannot_tell(found: Result) -> None:
    assert found.recovered("paths/all").estimate == pytest.approx(100, abs=1e-6)


def test_what_is_false_recovers_little(found: Result) -> None:
    own, other, false = expected()
    percent = found.recovered("one_each/all")
    assert percent.high < 25
    assert percent.low < 100 * (other - false) / (other - own) < percent.high


def test_what_is_true_recovers_all(found: Result) -> None:
    assert found.recovered("with_the_third/all").estimate == pytest.approx(100, abs=1e-6)
    assert found.improvement("with_the_third/all", "one_each/all").low > 70
