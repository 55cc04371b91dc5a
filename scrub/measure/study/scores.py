"""Every score of every head: on the prompts of a study, on repeated random tokens, and on natural text.

Context sensitivity is the worth of a head's far context to the predictions that have much context. The head alone runs
on a sequence whose beginning is another sequence's, while all others run on the real one. It is scored where at least
so many real tokens (the near context) stand between the cut and the position: what it loses there, it knew from further
away. Source: Variengien 2023, Some common confusion about induction heads, in the comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scrub.data.examples import TEXT, Examples, Tokens
from scrub.data.repeated import begin_of, common_tokens, repeated_tokens
from scrub.measure.heads.definitions import ABLATIONS, CONTEXT, definition
from scrub.measure.heads.roles import COMMON_TOKENS
from scrub.measure.heads.score import HeadScore
from scrub.measure.heads.scores import score_heads
from scrub.measure.interventions.ablation import ablate
from scrub.measure.interventions.effects import measure_effects
from scrub.measure.interventions.intervention import feed
from scrub.measure.study.heads import HeadStudy
from scrub.models.model import Model
from scrub.paths.sites import heads, read_sites
from scrub.paths.sources import Y
from scrub.paths.splits import attention_heads
from scrub.study.draws import pair
from scrub.study.metric import LOSS
from scrub.study.settings import Settings, obeyed
from scrub.text.errors import ScrubError

NEAR_POSITIONS = 32  # of real context, at least


def context_sensitivity(
    model: Model,
    text: Examples | Tokens,
    near: int = NEAR_POSITIONS,
    settings: Settings | None = None,
) -> HeadScore:
    """Measure for every head how much the loss rises, in nats, when its far context is another sequence's.

    Sequences are cut in the middle: what is before it, but for the begin token, is the other sequence's where the head
    reads; positions from `near` behind the cut on are scored.
    Raises ScrubError for sequences that are too short or fewer than two, GateError if a gate fails.
    """
    asked, on = obeyed(settings, "context_sensitivity"), Examples.of(text)
    positions = on.context
    cut = positions // 2
    if near < 0 or cut + near >= positions:
        raise ScrubError(
            f"sequences of {positions} positions, cut in the middle, have none with {near} real tokens before it "
            "behind the cut: take longer sequences, or fewer near tokens"
        )
    if len(on) < 2:
        raise ScrubError("one sequence has no other to take its far context from: give at least two")
    tokens, examples = on.tokens, on.later(cut + near)
    other, first = tokens.copy(), int(begin_of(tokens, model.bos_token_id) is not None)
    other[:, first:cut] = tokens[pair(len(on), asked.seed, 0)][:, first:cut]
    interventions = [feed(name, read_sites(name, model.graph, model.roles), Y) for name in heads(model.graph)]
    effects = measure_effects(model, interventions, examples, other=other, settings=asked)
    rise = effects.sums(effects.above_unchanged(effects.values[LOSS.name])[1:])
    layers = len(attention_heads(model.graph))
    shaped = rise.T.reshape(len(on), layers, -1)
    return definition(CONTEXT).score(TEXT, shaped, effects.counts, asked.seed, on.documents)


def read_scores(
    study: HeadStudy, text: Examples | Tokens, lags: Sequence[int] = (), settings: Settings | None = None
) -> list[HeadScore]:
    """Read all scores from the unchanged model, beside those of the study's ablation.

    They are of prompts, repeated random tokens of the text's common ones, and text, in this order. `lags` are asked for
    besides. Raises ScrubError for sequences that the model can't read, or a lag that none of them reaches.
    """
    asked = obeyed(settings, "read_scores")
    model, on = study.model, Examples.of(text)
    candidates = common_tokens(on.tokens, model.bos_token_id, COMMON_TOKENS)
    repeated = repeated_tokens(candidates, on.context, begin_of(on.tokens, model.bos_token_id), len(on), asked.seed)
    of_prompts = _read(model, study.many.prompts, [], asked)
    scores = [*(replace(score, on=study.many.on) for score in of_prompts), *study.many.causal]
    for examples in (Examples.of_repeated(repeated), on.later()):
        scores += _read(model, examples, lags, asked)
    return scores


def check_lags(lags: Sequence[int], positions: int) -> None:
    """Raise ScrubError for a lag that no position of such sequences reaches, nor of repeated tokens as long."""
    if lags and max(lags) >= (most := positions // 2 * 2):
        raise ScrubError(f"no position lies {max(lags)} behind another of {positions}: take a lag below {most}")


def causal_scores(
    model: Model,
    text: Examples | Tokens,
    how: str = "zero",
    near: int = NEAR_POSITIONS,
    settings: Settings | None = None,
) -> list[HeadScore]:
    """Ablate each head on text, and measure how much its far context is worth there.

    Raises ScrubError for what doesn't fit (see :func:`context_sensitivity`), and GateError if a gate fails.
    """
    asked = obeyed(settings, "causal_scores")
    model, on = model.to(asked.torch_dtype, asked.where), Examples.of(text)
    ablation = ablate(model, on.later(), "heads", how=how, settings=asked)
    scores = [replace(ablation.head_score(name), name=name) for name in ABLATIONS]
    near = min(near, on.context // 4)
    return [*scores, context_sensitivity(model, on, near, settings=asked)]


def _read(model: Model, examples: Examples, lags: Iterable[int], settings: Settings) -> list[HeadScore]:
    scores = score_heads(model, examples, seed=settings.seed, progress=settings.progress)
    asked = [f"lag {lag}" for lag in lags]
    more = score_heads(model, examples, asked, settings.seed, settings.progress) if asked else {}
    return [*scores.values(), *more.values()]
