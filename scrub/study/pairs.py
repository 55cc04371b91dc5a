"""The tokens that a run used, so that anyone can recompute its table elsewhere."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save

from scrub.paths.rules import OTHER, REFERENCE
from scrub.study.run import Prepared


def pairs_file(prepared: Prepared) -> bytes:
    """A safetensors file of `reference` and `other`, int64 [sequence, context + 1], and `selected`, bool
    [sequence, context]. The draws stand one after another along the sequences.

    Sources that agree with the reference on a feature are there by name: `like FEATURE`, int64 [sequence], and
    `rows like FEATURE`, int64 [sequence, context], say which row of `reference` was the donor.
    """
    draws = [prepared.draw(number) for number in range(prepared.settings.draws)]
    arrays = {
        "reference": np.concatenate([draw.tokens for draw in draws]),
        "other": np.concatenate([draw.tokens[draw.partners[OTHER]] for draw in draws]),
        "selected": np.concatenate([draw.selected for draw in draws]),
    }
    count = len(prepared.data.tokens)
    for source in sorted(draws[0].partners.keys() - {REFERENCE, OTHER}):
        arrays[source] = np.concatenate([draw.partners[source] + at * count for at, draw in enumerate(draws)])
    about = {"model": prepared.model.name, "data": prepared.data.name, "seed": str(prepared.settings.seed)}
    return save(arrays, about)
