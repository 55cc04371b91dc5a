"""The tokens that a metric looks at: right and wrong answers, as arrays for every position of every example."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from scrub.data.labels import READ_AT
from scrub.data.repeated import NOWHERE
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.data.examples import Examples

ANSWERS, WRONG, EITHER = "answers", "wrong", "answers and wrong ones"
Tokens: TypeAlias = Int[np.ndarray, "example position some"]
Choices: TypeAlias = tuple[Tokens, Float[np.ndarray, "example position some"]]


MEASURED = "what is measured"  # where no metric has a name


def choices_of(examples: Examples, of: str, wanting: str = MEASURED) -> Choices:
    """List the tokens that a metric looks at, at each position, and their weights.

    `choices_of(examples, EITHER)`. Of ANSWERS the weights make their mean, of WRONG that of the wrong ones, and of
    EITHER the mean of the answers less that of the wrong ones. What fills up weighs 0. The answer is the next token,
    but at the end of examples that come with `answers`. Raises ScrubError where there is no wrong one and one is asked
    for, which says what is `wanting` it.
    """
    right = [] if of == WRONG else [_right(examples)]
    wrong = [] if of == ANSWERS else [_wrong(examples, wanting)]
    weights = [_mean(each) for each in right] + [_mean(each) * (1 if of == WRONG else -1) for each in wrong]
    return np.maximum(np.concatenate([*right, *wrong], axis=2), 0), np.concatenate(weights, axis=2)


def _mean(tokens: Tokens) -> Float[np.ndarray, "example position some"]:
    there = tokens != NOWHERE
    return np.asarray(there / np.maximum(there.sum(2, keepdims=True), 1))


def _right(examples: Examples) -> Tokens:
    following = examples.following[..., None]
    if examples.answers is None:
        return following
    found = np.full((*examples.scored.shape, examples.answers.shape[1]), NOWHERE)
    found[:, :, :1] = following
    found[np.arange(len(examples)), examples.ends] = examples.answers
    return found


def _wrong(examples: Examples, wanting: str) -> Tokens:
    another = "measure another metric (loss, prob, logprob, accuracy, kl)"
    if examples.labels is not None and examples.wrong is None:
        return _other_classes(examples, examples.labels)
    if examples.wrong is None:
        raise ScrubError(
            f"there are no wrong answers in the {examples.kind}, and {wanting} needs some: give rows with 'wrong', or "
            f"{another}"
        )
    found = np.full((*examples.scored.shape, examples.wrong.shape[1]), NOWHERE)
    found[np.arange(len(examples)), examples.ends if examples.labels is None else READ_AT] = examples.wrong
    if (lacking := np.argwhere(examples.scored & (found == NOWHERE).all(2))).size:
        which, position = (int(at) for at in lacking[0])
        ends = position == examples.ends[which]
        where, advice = ("the end", "give every row one") if ends else (f"position {position}", "score 'end' alone")
        raise ScrubError(
            f"{examples.row(which)} has no wrong answer at {where}{examples.as_text(which)}, and {wanting} needs one "
            f"wherever it is scored: {advice}, or {another}"
        )
    return found


def _other_classes(examples: Examples, labels: Int[np.ndarray, " example"]) -> Tokens:
    """Give all other classes that any example has: those are wrong."""
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ScrubError(f"all examples are of the class {classes[0]}, and no other is wrong: give some of another")
    others = np.stack([classes[classes != label] for label in labels])
    return np.repeat(others[:, None], examples.context, axis=1)
