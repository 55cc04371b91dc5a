"""Features of rows of parens: what the parts of a model that tells balanced ones may carry.

A feature says a class, a whole number, for each row, or for each position of each: `count(tokens, None)`. The number
depends on the row alone and on none beside it, so that rows that are read apart can be compared. Tokens are
`start parens end pad...`, see :mod:`scrub.data.parens.symbols`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from tokenizers import Tokenizer

from scrub.data.parens.symbols import CLOSE, END, OPEN, PAD
from scrub.text.errors import ScrubError

Tokens = Int[np.ndarray, "row position"]
ByRow = Int[np.ndarray, " row"]
ByPosition = Int[np.ndarray, "row position"]

# the classes of a position in `horizon`
PADDED, CLOSED, OPENED, AT_MOST_HALF, MORE = range(5)
LESS_THAN_BITS = 56  # positions of a row whose horizons are one whole number together


def share_open(tokens: Tokens) -> Float[np.ndarray, " row"]:
    """Give the share of ( among the parens of each row: `share_open(rows)`. No feature, since it is no class.

    A row without parens has the share of one that is half and half.
    """
    opens, parens = (tokens == OPEN).sum(1), _parens(tokens)
    return np.where(parens == 0, 0.5, opens / np.maximum(parens, 1))


def count(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Tell rows with as many ( as ), class 1, from others: `count(rows)`."""
    return np.asarray(_signs(tokens).sum(1) == 0, dtype=np.int64)


def starts_open(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Tell rows whose first paren is a (, class 1, from others: `starts_open(rows)`."""
    return np.asarray(tokens[:, 1] == OPEN, dtype=np.int64)


def count_open(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Tell rows with as many ( as ) that start with a (, class 1, from others: `count_open(rows)`."""
    return np.asarray(count(tokens) * starts_open(tokens))


def nowhere_negative(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Tell rows of which no suffix has more ( than ), class 1, from others: `nowhere_negative(rows)`.

    Read from the right, as many have been closed as are opened, everywhere. With `count` that is to be balanced.
    """
    return np.asarray((_from_on(tokens) <= 0).all(1), dtype=np.int64)


def balanced(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Tell balanced rows, class 1, from others: `balanced(rows)`, which are the labels."""
    return np.asarray(count(tokens) * nowhere_negative(tokens))


def p_if_open(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Give the class of the share of (, of rows that start with one; all others are class 0: `p_if_open(rows)`.

    Rows of several lengths with one share are one class.
    """
    opens, parens = (tokens == OPEN).sum(1), _parens(tokens)
    common = np.gcd(opens, parens).clip(1)
    return np.where(tokens[:, 1] == OPEN, 1 + opens // common + (tokens.shape[1] + 1) * (parens // common), 0)


def length(tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
    """Count the positions of each row that are no pads, with the start and the end: `length(rows)`."""
    return np.asarray((tokens != PAD).sum(1))


@dataclass(frozen=True)
class Horizon:
    """What each position says of the rest of its row: the five classes PADDED, CLOSED, OPENED, AT_MOST_HALF, MORE.

    `Horizon()(rows)` are classes [row, position]: a pad; the end, behind what is no (, and behind a (; any other
    position, from which on at most a half of the parens are (, and more than that. With `before` and `after`
    [length, position], a paren weighs, in rows of so many positions without pads, the one where it stands before the
    position that is asked about, and the other from there on: see :func:`seen_by_head`. What is exactly half is so
    whatever the weights, where no paren stands before.
    """

    before: Float[np.ndarray, "length position"] | None = None
    after: Float[np.ndarray, "length position"] | None = None

    def __call__(self, tokens: Tokens, _: Tokenizer | None = None) -> ByPosition:
        return np.where(tokens == END, np.where(_previous(tokens) == OPEN, OPENED, CLOSED), self._open(tokens))

    def _open(self, tokens: Tokens) -> ByPosition:
        more = self._excess(tokens) > 0
        return np.where(tokens == PAD, PADDED, np.where(more, MORE, AT_MOST_HALF))

    def _excess(self, tokens: Tokens) -> np.ndarray:
        """Weigh each ( as 1 and each ) as -1, from every position on and before it."""
        from_on = _from_on(tokens)
        if self.before is None or self.after is None:
            return from_on
        if (rows := length(tokens)).max(initial=0) >= len(self.before) or tokens.shape[1] > self.before.shape[1]:
            raise ScrubError(
                f"rows of {int(rows.max())} tokens and {tokens.shape[1]} positions are asked about, and the weights "
                f"are of {len(self.before) - 1} and {self.before.shape[1]}: give those of a model that reads as many"
            )
        here = slice(None), slice(tokens.shape[1])
        earlier = _signs(tokens).sum(1, keepdims=True) - from_on
        return np.asarray(self.before[rows][here] * earlier + self.after[rows][here] * from_on)


@dataclass(frozen=True)
class Horizons:
    """All of a row's horizons in one class, so that two rows of a class agree at every position: nearly injective.

    `Horizons()(rows)`, or `Horizons(Horizon(before, after))` for other weights. Raises ScrubError for rows of
    LESS_THAN_BITS positions or more.
    """

    horizon: Callable[[Tokens], ByPosition] = Horizon()

    def __call__(self, tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
        positions = tokens.shape[1]
        if positions >= LESS_THAN_BITS:
            raise ScrubError(f"rows of {positions} positions have too many horizons: give fewer than {LESS_THAN_BITS}")
        each = self.horizon(tokens)
        bits = ((each == MORE) | (each == OPENED)) @ (1 << np.arange(positions))  # where the end is, says the length
        return np.asarray(bits + (length(tokens) << positions))


@dataclass(frozen=True)
class HorizonsHold:
    """Tell rows in which every horizon may still be a balanced row's, class 1, from others: `HorizonsHold()(rows)`.

    By the true shares that is `nowhere_negative`.
    """

    horizon: Callable[[Tokens], ByPosition] = Horizon()

    def __call__(self, tokens: Tokens, _: Tokenizer | None = None) -> ByRow:
        return np.asarray(~np.isin(self.horizon(tokens), (OPENED, MORE)).any(1), dtype=np.int64)


horizon = Horizon()
horizon_all = Horizons()
horizons_hold = HorizonsHold()


def phi(tokens: Tokens, direction: Float[np.ndarray, " d_model"]) -> Float[np.ndarray, "row d_model"]:
    """Estimate what a head that measures the share p of ( writes: (2 p - 1) times a direction. `phi(rows, v)`."""
    return np.asarray((2 * share_open(tokens) - 1)[:, None] * direction)


def _signs(tokens: Tokens) -> ByPosition:
    """1 for ( and -1 for )."""
    return np.asarray((tokens == OPEN).astype(np.int64) - (tokens == CLOSE))


def _from_on(tokens: Tokens) -> ByPosition:
    """How many more ( than ) there are from each position on."""
    return np.asarray(_signs(tokens)[:, ::-1].cumsum(1)[:, ::-1])


def _parens(tokens: Tokens) -> ByRow:
    return np.asarray(np.isin(tokens, (OPEN, CLOSE)).sum(1))


def _previous(tokens: Tokens) -> ByPosition:
    return np.concatenate([np.full((len(tokens), 1), PAD), tokens[:, :-1]], axis=1)
