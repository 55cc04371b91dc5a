"""The tokens that a metric looks at: right and wrong answers, as arrays for every position of every example."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from scrub.data.repeated import NOWHERE
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.data.examples import Examples

ANSWERS, WRONG, EITHER = "answers", "wrong", "answers and wrong ones"
Tokens: TypeAlias = Int[np.ndarray, "example position some"]
Choices: TypeAlias = tuple[Tokens, Float[np.ndarray, "example position some"]]


def choices_of(examples: Examples, of: str) -> Choices:
    """List the tokens that a metric looks at, at each position, and their weights.

    `choices_of(examples, EITHER)`. Of ANSWERS the weights make their mean, of WRONG that of the wrong ones, and of
    EITHER the mean of the answers less that of the wrong ones. What fills up weighs 0. The answer is the next token,
    but at the end of examples that come with `answers`. Raises ScrubError where there is no wrong one and one is asked
    for.
    """
    right = [] if of == WRONG else [_right(examples)]
    wrong = [] if of == ANSWERS else [_wrong(examples)]
    weights = [_mean(each) for each in right] + [_mean(each) * (1 if of == WRONG else -1) for each in wrong]
    return np.maximum(np.concatenate([*right, *wrong], axis=2), 0), np.concatenate(weights, axis=2)


def _mean(tokens: Tokens) -> Float[np.ndarray, "example position some"]:
    there = tokens != NOWHERE
    return np.asarray(there / np.maximum(there.sum(2, keepdims=True), 1))


def _right(examples: Examples) -> Tokens:
    following = np.asarray(examples.tokens[:, 1:, None])
    if examples.answers is None:
        return following
    found = np.full((*examples.scored.shape, examples.answers.shape[1]), NOWHERE)
    found[:, :, :1] = following
    found[np.arange(len(examples)), examples.ends] = examples.answers
    return found


def _wrong(examples: Examples) -> Tokens:
    if examples.wrong is None:
        raise ScrubError(
            f"the {examples.kind} come with no wrong answers, which this metric needs: give rows with `wrong`, or "
            "measure another (loss, prob, logprob, accuracy, kl)"
        )
    found = np.full((*examples.scored.shape, examples.wrong.shape[1]), NOWHERE)
    found[np.arange(len(examples)), examples.ends] = examples.wrong
    if (lacking := np.argwhere(examples.scored & (found == NOWHERE).all(2))).size:
        which, position = (int(at) for at in lacking[0])
        raise ScrubError(
            f"{examples.row(which)} has no wrong answer at position {position}{examples.as_text(which)}, and this "
            "metric needs one wherever it is scored: score 'end' alone, and give every row a wrong answer"
        )
    return found
