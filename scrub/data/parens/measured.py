"""What a model's own weights say of parens: how its first head weighs them, and what it writes for them.

Features that ask for the `model` are made of its weights: `horizon_adjusted(rows, None, model)`. It is a decoder with
learned positions, LayerNorms and biases of q, k and v. What is behind them takes arrays by the names that its graph has
for its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from tokenizers import Tokenizer

from scrub.data.parens import features
from scrub.data.parens.features import ByPosition, ByRow, Horizon, Horizons, HorizonsHold, Tokens
from scrub.data.parens.symbols import CLOSE, END, OPEN, START
from scrub.models.model import Model
from scrub.text.errors import ScrubError

Params = Mapping[str, np.ndarray]
EPSILON = 1e-5  # of LayerNorm
LEAST = 3  # tokens of a row that has a paren: the start, it, and the end
NAMES = (
    *("embed.weight", "pos.weight", "layers.0.ln1.weight", "layers.0.ln1.bias"),
    *(f"layers.0.{each}" for each in ("wq", "bq", "wk", "bk", "wv", "bv", "wo")),
)


def horizon_adjusted(tokens: Tokens, _: Tokenizer | None, model: Model) -> ByPosition:
    """Give the horizons by the share of ( that head 0.0 of a model sees: `horizon_adjusted(rows, None, model)`.

    Raises ScrubError, as the features below do, for a model that has no such head.
    """
    return Horizon(*seen_by_head(_params(model)))(tokens)


def horizon_adjusted_all(tokens: Tokens, _: Tokenizer | None, model: Model) -> ByRow:
    """Give the class of all of a row's adjusted horizons together: `horizon_adjusted_all(rows, None, model)`."""
    return Horizons(Horizon(*seen_by_head(_params(model))))(tokens)


def horizon_adjusted_holds(tokens: Tokens, _: Tokenizer | None, model: Model) -> ByRow:
    """Tell rows whose adjusted horizons all may be a balanced row's: `horizon_adjusted_holds(rows, None, model)`."""
    return HorizonsHold(Horizon(*seen_by_head(_params(model))))(tokens)


def phi(tokens: Tokens, _: Tokenizer | None, model: Model) -> Float[np.ndarray, "row position d_model"]:
    """Estimate what head 0.0 writes by the share of ( alone: `phi(rows, None, model)`, the same at every position."""
    written = features.phi(tokens, open_direction(_params(model)))
    return np.repeat(written[:, None], tokens.shape[1], axis=1)


def _params(model: Model) -> Params:
    if lacking := [name for name in NAMES if name not in model.params]:
        raise ScrubError(
            f"the feature is of what head 0.0 reads, and {model.name} has no parameter {lacking[0]}: take a model of "
            "parens"
        )
    return {name: model.params[name].detach().double().cpu().numpy() for name in NAMES}


def seen_by_head(
    params: Params, head: int = 0
) -> tuple[Float[np.ndarray, "length position"], Float[np.ndarray, "length position"]]:
    """Measure how a head of layer 0 weighs a paren before a position, and one from there on, by the row's length.

    `before, after = seen_by_head(params)`. Each is the mean attention from that position to such parens, 0 where there
    are none, in a row of so many tokens that is half and half: the query reads a (, the keys the mean of what ( and )
    give behind the norm. Positions behind the end of a row are 0.
    """
    every = _read(params)  # [position, token, d_model]
    positions = len(every)
    half = every[:, [OPEN, CLOSE]].mean(1)
    before, after = np.zeros((2, positions + 1, positions))
    for length in range(LEAST, positions + 1):
        q = _project(params, "q", _row(every, every[:, OPEN], length), head)
        k = _project(params, "k", _row(every, half, length), head)
        pattern = _softmax(q @ k.T / np.sqrt(q.shape[1]))
        for at in range(length):
            earlier, later = pattern[at, 1 : min(at, length - 1)], pattern[at, max(at, 1) : length - 1]
            before[length, at] = earlier.mean() if earlier.size else 0
            after[length, at] = later.mean() if later.size else 0
    return before, after


def open_direction(params: Params, head: int = 0) -> Float[np.ndarray, " d_model"]:
    """Measure half of what a head of layer 0 writes more for a ( than for a ), wherever a row may have a paren.

    `open_direction(params)` is what it would write if all that it sees were (, as the mean over positions.
    """
    every = _read(params)[1:-1]
    written = _project(params, "v", every, head) @ params["layers.0.wo"][head].T
    return np.asarray((written[:, OPEN] - written[:, CLOSE]).mean(0) / 2)


def _read(params: Params) -> Float[np.ndarray, "position token d_model"]:
    """What layer 0 reads, behind its norm, of every token at every position."""
    x = params["pos.weight"][:, None] + params["embed.weight"][None]
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON)
    return np.asarray(x * params["layers.0.ln1.weight"] + params["layers.0.ln1.bias"])


def _row(
    every: Float[np.ndarray, "position token d_model"], parens: Float[np.ndarray, "position d_model"], length: int
) -> Float[np.ndarray, "length d_model"]:
    row = parens[:length].copy()
    row[0], row[-1] = every[0, START], every[length - 1, END]
    return row


def _project(params: Params, slot: str, x: np.ndarray, head: int) -> np.ndarray:
    return np.asarray(x @ params[f"layers.0.w{slot}"][head].T + params[f"layers.0.b{slot}"][head])


def _softmax(scores: Float[np.ndarray, "query key"]) -> Float[np.ndarray, "query key"]:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))
