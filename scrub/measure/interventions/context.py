"""Context sensitivity: the worth of a head's far context to the predictions that have much context.

The head alone runs on a sequence whose beginning is another sequence's, while all others run on the real one. It is
scored where at least so many real tokens (the near context) stand between the cut and the position: what it loses
there, it knew from further away. Source: Variengien 2023, Some common confusion about induction heads, in the comments.
"""

from __future__ import annotations

import numpy as np

from scrub.data.examples import TEXT, Examples, Tokens
from scrub.measure.heads.definitions import CONTEXT, definition
from scrub.measure.heads.score import HeadScore
from scrub.measure.interventions.effects import measure_effects
from scrub.measure.interventions.intervention import feed
from scrub.models.model import Model
from scrub.paths.sites import heads, read_sites
from scrub.paths.sources import Y
from scrub.paths.splits import attention_heads
from scrub.study.draws import pair
from scrub.study.metric import LOSS
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

NEAR_POSITIONS = 32  # of real context, at least


def context_sensitivity(
    model: Model,
    text: Tokens,
    near: int = NEAR_POSITIONS,
    settings: Settings | None = None,
) -> HeadScore:
    """Measure for every head how much the loss rises, in nats, when its far context is another sequence's.

    Sequences are cut in the middle: what is before it, but for the begin token, is the other sequence's where the head
    reads; positions from `near` behind the cut on are scored.
    Raises ScrubError for sequences that are too short or fewer than two, GateError if a gate fails.
    """
    asked = settings or Settings()
    positions = text.shape[1] - 1
    cut = positions // 2
    if near < 0 or cut + near >= positions:
        raise ScrubError(
            f"sequences of {positions} positions, cut in the middle, have none with {near} real tokens before it "
            "behind the cut: take longer sequences, or fewer near tokens"
        )
    if len(text) < 2:
        raise ScrubError("one sequence has no other to take its far context from: give at least two")
    scored = np.repeat((np.arange(positions) >= cut + near)[None], len(text), axis=0)
    other = text.copy()
    other[:, 1:cut] = text[pair(len(text), asked.seed, 0)][:, 1:cut]
    interventions = [feed(name, read_sites(name, model.graph, model.roles), Y) for name in heads(model.graph)]
    examples = Examples(text, scored)
    effects = measure_effects(model, interventions, examples, other=other, settings=asked)
    rise = effects.sums(effects.above_unchanged(effects.values[LOSS.name])[1:])
    layers = len(attention_heads(model.graph))
    return definition(CONTEXT).score(TEXT, rise.T.reshape(len(text), layers, -1), effects.counts, asked.seed)
