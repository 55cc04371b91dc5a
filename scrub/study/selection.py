"""Select the positions that a study scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.examples import Examples, Scored
from scrub.data.whitelist import WHITELIST as FILE
from scrub.data.whitelist import rank_in_group, whitelist_of
from scrub.models.find import locate
from scrub.study.settings import EVERY, REPEATS
from scrub.text.errors import ScrubError


def scored_at(positions: str, examples: Examples, study_data: str) -> Scored:
    """Select the positions whose next token is scored, of those that may be.

    "all"; "repeats", those whose token stands earlier in its sequence, so that there is something to induct from; or
    "whitelist", those of the mask that the data come with, or else those whose token is whitelisted. The whitelist is
    the data's own, or else that of the study's data, if the tokenizer is the one it was made with. Raises ScrubError
    if there is none that fits, or no position is selected.
    """
    if positions == EVERY:
        return examples.scored_at(np.ones_like(examples.scored)).scored
    listed = repeats(examples.inputs) if positions == REPEATS else _listed(examples, study_data)
    selected = examples.scored_at(listed).scored
    if not selected.any():
        is_so = {REPEATS: "stands earlier in its sequence"}.get(positions, "is on the whitelist")
        raise ScrubError(
            f"no position of the data {examples.name!r} is selected: none of its {examples.tokens.size:,} tokens "
            f"{is_so}; use --positions all, or data with a whitelist of its own ('scrub whitelist')"
        )
    return selected


def repeats(inputs: Int[np.ndarray, "sequence position"]) -> Bool[np.ndarray, "sequence position"]:
    """Find the positions whose token stands earlier in its sequence."""
    rows = np.arange(len(inputs))[:, None]
    return rank_in_group(rows * (int(inputs.max(initial=0)) + 1) + inputs) > 0


def _listed(examples: Examples, study_data: str) -> Scored:
    origin = examples.origin
    if origin is not None and origin.masked:
        return examples.scored
    if origin is None:
        raise ScrubError(
            "tokens in memory have no whitelist: score others (--positions repeats, or all), or give a mask with them"
        )
    if origin.folder is None or not (origin.folder / FILE).is_file():
        origin = replace(origin, folder=locate("data", study_data))
    return whitelist_of(origin, examples.name).select(examples.tokens)
