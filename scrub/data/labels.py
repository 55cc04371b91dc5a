"""Labels of examples: the class of each, which is predicted in place of a next token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.arrays import array_of, tokens_of
from scrub.text.errors import ScrubError
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.data.examples import Examples

READ_AT = 0  # the position where a classifier's outputs are read


def where_read(shape: tuple[int, ...]) -> Bool[np.ndarray, "example position"]:
    """Mark the position of each example where its class is read: `where_read((2, 3))`."""
    at = np.zeros(shape, dtype=bool)
    at[:, READ_AT] = True
    return at


def labelled(on: Any, labels: Any) -> tuple[Int[np.ndarray, "example position_plus_one"], Int[np.ndarray, " example"]]:
    """Take tokens that are all read, with the class of each row, and put that behind them: `labelled([[0, 2]], [1])`.

    Nothing stands for examples that are made already. Raises ScrubError for what aren't such.
    """
    if on is None:
        raise ScrubError("labels are given with tokens [example, position], and these are examples already")
    read = tokens_of(on)
    try:
        classes = array_of(labels)
    except ValueError as error:  # rows of different lengths
        raise ScrubError(f"the labels are no array ({error}): give the class of each example") from error
    if classes.shape != (len(read),) or classes.dtype.kind not in "biu":
        raise ScrubError(
            f"the labels are {classes.dtype} {list(classes.shape)}, and there are {len(read)} examples: give the "
            "class of each, a whole number"
        )
    return np.concatenate([read, classes[:, None]], axis=1).astype(np.int64), classes.astype(np.int64)


def check_labels(examples: Examples, labels: Int[np.ndarray, " example"]) -> None:
    """Raise ScrubError for labels that are none, or examples that can't have such: see :class:`Examples`."""
    count = len(examples.tokens)
    if not isinstance(labels, np.ndarray) or labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ScrubError(
            f"{count} examples have the labels {short(labels)}: give an array with the class of each, a whole number"
        )
    if labels.min(initial=0) < 0:
        which = int(labels.argmin())
        raise ScrubError(f"the label of example {which} is {labels[which]}: classes are 0 and more")
    if examples.lengths is not None or examples.answers is not None or examples.completions is not None:
        raise ScrubError("examples with labels predict their class: leave lengths, answers and completions out")
    if (examples.scored & ~where_read(examples.scored.shape)).any():
        raise ScrubError(f"examples with labels are scored at position {READ_AT} alone, where the class is read")
