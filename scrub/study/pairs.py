"""The tokens that a run used, so that anyone can recompute its table elsewhere."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save

from scrub.paths.sources import X, Y, ordered
from scrub.study.run import Trial


def pairs_file(trial: Trial) -> bytes:
    """Write a safetensors file of `reference` and `other`, int64 [sequence, context + 1], and `selected`, bool
    [sequence, context]. The draws stand one after another along the sequences.

    Sources that agree with the reference on a feature are there by name: `like FEATURE`, int64 [sequence], and
    `rows like FEATURE`, int64 [sequence, context], say which row of `reference` was the donor; those that are of any
    position have `positions of SOURCE` too. Of prompts there are
    `lengths`, `answers` and `wrong` (-1 where there are fewer), and each `position NAME`, int64, where they have any.
    """
    pairings = [trial.pairing(number) for number in range(trial.settings.draws)]
    examples = trial.examples
    arrays = {
        "reference": np.concatenate([examples.tokens for _ in pairings]),
        "other": np.concatenate([pairing.pool[pairing.partners[Y]] for pairing in pairings]),
        "selected": np.concatenate([examples.scored for _ in pairings]),
    }
    more = {"lengths": examples.lengths, "answers": examples.answers, "wrong": examples.wrong}
    more |= {f"position {name}": at for name, at in examples.positions.items()}
    arrays |= {name: np.concatenate([of for _ in pairings]) for name, of in more.items() if of is not None}
    for source in ordered(pairings[0].partners.keys() - {X, Y}):
        rows = (pairing.partners[source] + at * len(examples) for at, pairing in enumerate(pairings))
        arrays[str(source)] = np.concatenate(list(rows))
        if source in pairings[0].places:
            at = [pairing.places[source] for pairing in pairings]
            arrays[f"positions of {source}"] = np.concatenate(at)
    about = {"model": trial.model.name, "data": examples.name, "seed": str(trial.settings.seed)}
    return save(arrays, about)
