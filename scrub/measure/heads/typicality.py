"""Find the tokens around which a previous-token head looks elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scrub.measure.heads.attention import attention_to_previous
from scrub.models.model import Model
from scrub.text.errors import ScrubError

MIN_OCCURRENCES = 100  # of a token: the mean over fewer says little
DEPARTS_FRACTION = 0.5  # of the head's mean attention to the previous position: a token below is atypical
MAX_TOKENS = 12  # of each kind


@dataclass(frozen=True)
class Departure:
    """A token, how often it was seen, and the head's mean attention to the previous position there (a fraction)."""

    token: int
    text: str
    seen: int
    attention: float


@dataclass(frozen=True)
class Typicality:
    """The tokens that make a position atypical when they are the current or the previous one."""

    mean: float
    current: tuple[Departure, ...]
    previous: tuple[Departure, ...]
    explained: float  # the fraction of the variance of the attention that the two classes explain
    atypical: float  # the fraction of positions


def measure_typicality(
    model: Model, text: Int[np.ndarray, "sequence position_plus_one"], role: str = "prev"
) -> Typicality:
    """Measure it for the one head of a role. Raises ScrubError if the role has no head, or the model no tokenizer."""
    heads = model.roles.get(role, ())
    if not heads or model.tokenizer is None:
        raise ScrubError(f"{model.name} has no head of the role {role!r}, or no tokenizer: 'scrub roles --write' first")
    layer, head = heads[0]
    attention = attention_to_previous(model, text, layer, head)[:, 1:]
    now, before = text[:, 1:-1], text[:, :-2]
    previous = _departures(model, attention, before)
    # a token that departs only because of the one before it isn't listed for itself
    unexplained = ~np.isin(before, [d.token for d in previous])
    current = _departures(model, attention[unexplained], now[unexplained])
    atypical = ~unexplained | np.isin(now, [d.token for d in current])
    between = sum(part.mean() * (attention[part].mean() - attention.mean()) ** 2 for part in (atypical, ~atypical))
    explained = float(between / attention.var())
    return Typicality(float(attention.mean()), current, previous, explained, float(atypical.mean()))


def _departures(
    model: Model, attention: Float[np.ndarray, "..."], tokens: Int[np.ndarray, "..."]
) -> tuple[Departure, ...]:
    flat = tokens.ravel()
    seen = np.bincount(flat, minlength=model.vocab_size)
    means = np.bincount(flat, weights=attention.ravel(), minlength=model.vocab_size) / np.maximum(seen, 1)
    below = np.flatnonzero((seen >= MIN_OCCURRENCES) & (means < DEPARTS_FRACTION * attention.mean()))
    missing = seen[below] * (attention.mean() - means[below])  # the attention that is elsewhere because of it
    most = below[np.argsort(-missing, kind="stable")[:MAX_TOKENS]]
    assert model.tokenizer is not None
    return tuple(
        Departure(
            int(token),
            model.tokenizer.decode([int(token)], skip_special_tokens=False),
            int(seen[token]),
            float(means[token]),
        )
        for token in most
    )
