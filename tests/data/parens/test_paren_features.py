"""Features of parens against their definitions, read from strings one by one, with nothing of how they are computed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import small_decoder

from scrub.data.parens.features import (
    Horizon,
    Horizons,
    HorizonsHold,
    balanced,
    count,
    count_open,
    horizon,
    horizon_all,
    length,
    nowhere_negative,
    p_if_open,
    phi,
    share_open,
    starts_open,
)
from scrub.data.parens.measured import (
    horizon_adjusted,
    horizon_adjusted_all,
    horizon_adjusted_holds,
    open_direction,
    seen_by_head,
)
from scrub.data.parens.measured import phi as phi_of
from scrub.data.parens.reading import rows_of
from scrub.models.model import Model
from scrub.text.errors import ScrubError

texts = st.lists(st.text("()", min_size=1, max_size=40), min_size=1, max_size=13)
POSITIONS = 42


def is_balanced(text: str) -> bool:
    """By taking pairs away until there are none."""
    while "()" in text:
        text = text.replace("()", "")
    return not text


def of_text(text: str, weigh: tuple[np.ndarray, np.ndarray] | None = None) -> list[str]:
    """The horizon at each position, in words."""
    said = ["at most half" if more(text, at, weigh) <= 0 else "more" for at in range(len(text) + 1)]
    return [*said, "opened" if text[-1] == "(" else "closed", *["pad"] * (POSITIONS - len(text) - 2)]


def more(text: str, at: int, weigh: tuple[np.ndarray, np.ndarray] | None) -> float | Fraction:
    """How much the share of ( is above a half, from a position on, or by what a paren weighs there."""
    paren = [*enumerate(text, 1)]
    if weigh is None:
        later = [Fraction(each == "(") for place, each in paren if place >= at]
        return sum(later) / len(later) - Fraction(1, 2)
    before, after = (float(each[len(text) + 2, at]) for each in weigh)
    weights = [before if place < at else after for place, _ in paren]
    opens = sum(weight for weight, (_, each) in zip(weights, paren, strict=True) if each == "(")
    return opens / sum(weights) - 0.5


@given(texts)
def test_features_of_a_row_are_what_they_are_called(some: list[str]) -> None:
    rows = rows_of(some)
    shares = [Fraction(text.count("("), len(text)) for text in some]
    expected = {
        count: [text.count("(") == text.count(")") for text in some],
        starts_open: [text.startswith("(") for text in some],
        count_open: [text.count("(") == text.count(")") and text.startswith("(") for text in some],
        nowhere_negative: [
            all(text[at:].count("(") <= text[at:].count(")") for at in range(len(text))) for text in some
        ],
        balanced: [is_balanced(text) for text in some],
        length: [len(text) + 2 for text in some],
    }
    for feature, values in expected.items():
        found = feature(rows, None)
        assert found.dtype == np.int64
        assert found.tolist() == values, feature.__name__
    assert share_open(rows) == pytest.approx([float(share) for share in shares], abs=1e-15)
    kept = [share if text.startswith("(") else None for share, text in zip(shares, some, strict=True)]
    classes = p_if_open(rows)
    for at, one in enumerate(kept):
        for to, other in enumerate(kept):
            assert (classes[at] == classes[to]) == (one == other), (some[at], some[to])


@given(texts)
def test_horizons_tell_what_is_left_at_every_position(some: list[str]) -> None:
    rows, words = rows_of(some), [of_text(text) for text in some]
    found = horizon(rows, None)
    assert found.shape == (len(some), POSITIONS)
    meant = dict(zip(["pad", "closed", "opened", "at most half", "more"], range(5), strict=True))
    assert found.tolist() == [[meant[word] for word in each] for each in words]
    hold = [not {"more", "opened"} & {*each} for each in words]
    assert HorizonsHold()(rows).tolist() == hold == nowhere_negative(rows).astype(bool).tolist()
    together = horizon_all(rows)
    for at, one in enumerate(words):
        for to, other in enumerate(words):
            assert (together[at] == together[to]) == (one == other)


@given(texts, st.integers(0, 2**32 - 1))
def test_other_weights_move_what_is_half(some: list[str], seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 3, (2, POSITIONS + 1, POSITIONS))
    rows, adjusted = rows_of(some), Horizon(*weights)
    words = [of_text(text, (weights[0], weights[1])) for text in some]
    near = [
        [position <= len(text) and abs(more(text, position, (weights[0], weights[1]))) < 1e-9 for position in range(42)]
        for text in some
    ]
    meant = dict(zip(["pad", "closed", "opened", "at most half", "more"], range(5), strict=True))
    same = adjusted(rows) == np.array([[meant[word] for word in each] for each in words])
    assert (same | np.array(near)).all()
    for at, to in pairwise(range(len(some))):
        alike = (adjusted(rows)[at] == adjusted(rows)[to]).all()
        assert (Horizons(adjusted)(rows)[at] == Horizons(adjusted)(rows)[to]) == alike


def test_a_balanced_row_is_half_at_its_first_paren_whatever_a_paren_weighs() -> None:
    """Where all weights are alike, sums of them in floating point would put some rows above a half."""
    rows = rows_of(["()" * pairs for pairs in range(1, 21)])
    for seed in range(50):
        adjusted = Horizon(*np.random.default_rng(seed).uniform(0, 1, (2, POSITIONS + 1, POSITIONS)))
        assert (adjusted(rows)[:, :2] == 3).all()


def test_classes_do_not_depend_on_the_rows_beside() -> None:
    some = ["()", "(()", ")(", "((((", "()()", "())"]
    rows = rows_of(some)
    for feature in (p_if_open, horizon_all, horizon, count):
        alone = np.concatenate([feature(rows[at : at + 1]) for at in range(len(rows))])
        assert (alone == feature(rows)).all()


def test_rows_that_are_too_long_for_what_was_measured_are_refused() -> None:
    with pytest.raises(ScrubError, match="rows of 42 tokens"):
        Horizon(np.zeros((42, 41)), np.zeros((42, 41)))(rows_of(["()" * 20]))
    with pytest.raises(ScrubError, match="rows of 57 positions"):
        horizon_all(np.ones((1, 57), dtype=np.int64))


def test_phi_is_the_excess_of_open_ones() -> None:
    direction = np.array([2.0, -3.0, 0.5])
    assert phi(rows_of(["((", "()", "()))"]), direction).tolist() == [[2, -3, 0.5], [0, 0, 0], [-1, 1.5, -0.25]]


def small_params(seed: int) -> dict[str, np.ndarray]:
    """The first layer of a random model: d_model 11, 2 heads of 3, 17 positions."""
    rng = np.random.default_rng(seed)
    sizes = {"embed.weight": (5, 11), "pos.weight": (17, 11), "layers.0.ln1.weight": (11,), "layers.0.ln1.bias": (11,)}
    sizes |= {f"layers.0.w{slot}": (2, 3, 11) for slot in "qkv"} | {f"layers.0.b{slot}": (2, 3) for slot in "qkv"}
    return {name: rng.normal(size=size) for name, size in (sizes | {"layers.0.wo": (2, 11, 3)}).items()}


def test_what_a_head_sees_is_its_mean_attention() -> None:
    """Against torch: whole rows of ( and of ), whose normed embeddings are mixed half and half."""
    import torch

    params = {name: torch.tensor(value) for name, value in small_params(3).items()}

    def normed(tokens: list[int]) -> torch.Tensor:
        x = params["embed.weight"][tokens] + params["pos.weight"][: len(tokens)]
        weight, bias = params["layers.0.ln1.weight"], params["layers.0.ln1.bias"]
        return torch.nn.functional.layer_norm(x, (11,), weight, bias, 1e-5)

    before, after = seen_by_head(small_params(3), head=1)
    assert before.shape == after.shape == (18, 17)
    for length_, at in ((5, 3), (5, 1), (5, 4), (5, 0), (17, 9), (12, 11)):
        opens, closes = (normed([0, *[each] * (length_ - 2), 2]) for each in (3, 4))
        keys = (opens + closes) / 2 @ params["layers.0.wk"][1].T + params["layers.0.bk"][1]
        query = opens[at] @ params["layers.0.wq"][1].T + params["layers.0.bq"][1]
        seen = (keys @ query / 3**0.5).softmax(0)
        parens = {place: float(seen[place]) for place in range(1, length_ - 1)}
        for found, held in (
            (before, [value for place, value in parens.items() if place < at]),
            (after, [value for place, value in parens.items() if place >= at]),
        ):
            assert found[length_, at] == pytest.approx(sum(held) / len(held) if held else 0, abs=1e-12)
    written = [
        [
            (normed([each] * 17)[place] @ params["layers.0.wv"][1].T + params["layers.0.bv"][1])
            @ params["layers.0.wo"][1].T
            for place in range(1, 16)
        ]
        for each in (3, 4)
    ]
    opened, closed = (torch.stack(each).mean(0) for each in written)
    assert open_direction(small_params(3), head=1) == pytest.approx((opened - closed).numpy() / 2, abs=1e-12)


def small_encoder() -> Model:
    """A random classifier of parens: 6 heads of 4, d_model 11."""
    biases = ("q", "k", "v", "o", "mlp", "unembed")
    sizes = {"n_ctx": POSITIONS, "vocab_size": 5, "windows": (None,), "biases": biases, "tied": False}
    return small_decoder("gptneo", seed=5, causal=False, pad_token_id=1, n_classes=2, activation="relu", **sizes)


def test_features_that_ask_for_the_model_are_made_of_its_weights() -> None:
    model = small_encoder()
    params = {name: value.double().numpy() for name, value in model.params.items()}
    rows = rows_of(["(())", "))((", "(()(", "()" * 20, "((()))" * 3])
    by_hand = Horizon(*seen_by_head(params))
    assert (horizon_adjusted(rows, None, model) == by_hand(rows)).all()
    assert (horizon_adjusted(rows, None, model) != horizon(rows)).any()
    assert (horizon_adjusted_all(rows, None, model) == Horizons(by_hand)(rows)).all()
    assert (horizon_adjusted_holds(rows, None, model) == HorizonsHold(by_hand)(rows)).all()
    made = phi_of(rows, None, model)
    assert made.shape == (5, 42, 11)
    assert (made == phi(rows, open_direction(params))[:, None]).all()
    with pytest.raises(ScrubError, match=r"gptneo has no parameter layers\.0\.bq"):
        phi_of(
            rows, None, replace(model, params={name: model.params[name] for name in params if name != "layers.0.bq"})
        )
