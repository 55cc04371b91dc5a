"""Folds: examples in three parts, so that what is searched on isn't what is reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from scrub.data.examples import PROMPTS, Examples
from scrub.data.settings import FOLDS, check_fold
from scrub.data.windows import counted
from scrub.text.errors import ScrubError
from scrub.text.wording import short

SHUFFLE = 20_260  # nobody's seed: which fold a group is in depends on the examples alone
_WHOLE = ("document", "template")  # of text, and of prompts


def members(examples: Examples, fold: str) -> Int[np.ndarray, " member"]:
    """Number the examples of a fold, in their order: `examples.some(members(examples, "report"))`.

    The folds are disjoint, hold all examples, and are as equal as whole groups allow: each group, the largest first,
    goes to the fold that has fewest so far. A group are the examples of one document; of prompts those of one template,
    where there are as many templates as folds; else an example with those that read the same tokens. Nothing but the
    examples decides: no seed, no draws, nor which positions are scored.
    Raises ScrubError for a fold that there is not, fewer groups than folds, and a fold of fewer than two examples.
    """
    check_fold(fold)
    found, what = _groups(examples)
    sizes = np.bincount(found)
    if len(sizes) < len(FOLDS):
        raise ScrubError(
            f"{counted(len(sizes), what)} of {short(examples.name)} can't be divided into {len(FOLDS)} folds: give "
            f"data of more {what}s (a run without a fold takes all of them)"
        )
    shuffled = np.random.default_rng(SHUFFLE).permutation(len(sizes))
    holds, of_group = [0] * len(FOLDS), np.zeros(len(sizes), dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        of_group[group] = least = holds.index(min(holds))
        holds[least] += int(sizes[group])
    kept = np.flatnonzero(of_group[found] == FOLDS.index(fold))
    if len(kept) < 2:
        raise ScrubError(
            f"the fold {fold} of {short(examples.name)} has {counted(len(kept), _called(examples))}, and no other to "
            "resample from: give more data (a run without a fold takes all of them)"
        )
    return kept


def in_fold(examples: Examples, fold: str | None) -> Examples:
    """Keep the examples of a fold, and say so in a note: `in_fold(examples, "report")`; without a fold, all of them.

    What is drawn for them is of the same fold too: the rest of the data is left out. Raises ScrubError as
    :func:`members` does.
    """
    if fold is None:
        return examples
    kept = members(examples, fold)
    columns = {name: values[kept] for name, values in examples.columns.items()}
    said = f"fold {fold}: {_said(examples, kept)}{_shared(examples, kept)}"
    return replace(examples.some(kept), rest=None, columns=columns, notes=(*examples.notes, said))


def _said(examples: Examples, kept: Int[np.ndarray, " member"]) -> str:
    """Say how many of the examples a fold has, and of how many groups, where these are fewer."""
    (found, what), each = _groups(examples), _called(examples)
    every, own = len(np.unique(found)), len(np.unique(found[kept]))
    said = f"{len(kept):,} of {counted(len(examples), each)}"
    if every < len(examples):
        said += f", {own:,} of {counted(every, what if what in _WHOLE else 'different one')}"
    templates = len(np.unique(examples.templates)) if each == "prompt" else len(FOLDS)
    few = f"; {counted(templates, 'template')} can't be kept apart in {len(FOLDS)} folds, so each has prompts of any"
    return said + few * (templates < len(FOLDS))


def _shared(examples: Examples, kept: Int[np.ndarray, " member"]) -> str:
    """Say how many of a fold come with another that is an example of another fold."""
    if examples.other is None:
        return ""
    elsewhere = {row.tobytes() for row in np.delete(examples.tokens, kept, axis=0)}
    count = sum(row.tobytes() in elsewhere for row in examples.other[kept])
    return f"; {count:,} of them come with another that is an example of another fold" if count else ""


def _called(examples: Examples) -> str:
    return "prompt" if examples.kind == PROMPTS else "sequence"


def _groups(examples: Examples) -> tuple[Int[np.ndarray, " example"], str]:
    """Number the groups that stay together, and say what each is."""
    prompts = examples.kind == PROMPTS
    of, what = (examples.templates if prompts else examples.documents), _WHOLE[prompts]
    count = len(np.unique(of))
    if count == len(examples) or (prompts and count < len(FOLDS)):
        of, what = np.where(examples.real, examples.inputs, -1), f"different {_called(examples)}"
    return np.unique(of, axis=0, return_inverse=True)[1].ravel(), what
