"""Results of a study made by hand, or drawn at random, without a folder or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console

from scrub.data.examples import Examples
from scrub.store.results.read import HypothesisRecord, StudyResults
from scrub.study.gates import Gates
from scrub.study.metric import LOSS
from scrub.study.result import Result
from scrub.study.run import Trial

LETTERS = "abcdefghijklmnopqrstuvwxyz ,"


def made(
    token_losses: Mapping[str, ArrayLike],
    *,
    draws: int = 1,
    seed: int = 0,
    tokens: np.ndarray | None = None,
    texts: Mapping[int, str] | None = None,
    hypotheses: Sequence[HypothesisRecord] = (),
    about: Mapping[str, str] | None = None,
    **changes: Any,
) -> StudyResults:
    """Results with these losses at [sequence, position], not a number where none is scored, in every pairing alike.

    Names with a slash are hypothesis/part, in the order of the rows; without a bigram it is the baseline's loss.
    """
    losses = {name: np.asarray(values, dtype=np.float64) for name, values in token_losses.items()}
    losses = {"all_scrubbed": losses["baseline"], "bigram": losses["baseline"], **losses}
    selected = np.isfinite(losses["unscrubbed"])
    sums = {name: np.nansum(values, 1) * draws for name, values in losses.items()}
    rows = [(h, p) for name in losses for h, slash, p in [name.rpartition("/")] if slash]
    if tokens is None:
        tokens = np.random.default_rng(7).integers(0, len(LETTERS), (selected.shape[0], selected.shape[1] + 1))
    described = {each.name: each for each in hypotheses}
    result = Result(
        **{
            "study": "s",
            "model": "m",
            "data": "d",
            "draws": draws,
            "seed": seed,
            "rows": rows,
            "loss": sums,
            "change": {
                name: np.nansum(np.abs(each - losses["unscrubbed"]), 1) * draws for name, each in losses.items()
            },
            "kl": {name: np.zeros(len(selected)) for name in losses},
            "positions": selected.sum(1) * draws,
            "gates": Gates({"none": 0.0}, ()),
        }
        | changes
    )
    return StudyResults(
        result,
        Examples(tokens, selected),
        dict(enumerate(LETTERS)) if texts is None else texts,
        {name: described.get(name, HypothesisRecord(name, "", f"k {name} -> y")) for name, _ in rows},
        losses.__getitem__,
        tuple((seed, draw) for draw in range(draws)),
        about or {},
    )


def drawn(
    rng: np.random.Generator,
    sequences: int,
    effects: Mapping[str, float],
    positions: int = 5,
    spread: float = 0.2,
    **keywords: Any,
) -> StudyResults:
    """Sequences that differ in length and difficulty; each experiment keeps its effect of the gap, and noise."""
    scored = rng.random((sequences, positions)) < 0.7
    scored[:, 0] = True
    shape = (sequences, 1)
    hard, gap = rng.gamma(2, 1, shape) + rng.gamma(2, 0.2, scored.shape), rng.gamma(2, 0.25, shape)
    losses = {"unscrubbed": hard, "baseline": hard + gap}
    for name, effect in effects.items():
        kept = effect + rng.normal(0, spread, shape) + rng.normal(0, spread, scored.shape)
        losses[name] = hard + (1 - kept) * gap
    return made({name: np.where(scored, values, np.nan) for name, values in losses.items()}, **keywords)


def said(found: object, width: int = 130) -> str:
    """What a terminal of so many columns shows."""
    console = Console(width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as captured:
        console.print(found)
    return captured.get()


def ran(trial: Trial) -> StudyResults:
    """The results of a study that runs here and now, in one pairing, without a folder in between."""
    examples, made = trial.examples, trial.evaluator()
    losses = {each.name: np.full(examples.scored.shape, np.nan) for each in trial.experiments}
    found = made(trial.pairing(0), np.arange(len(examples)), values_of=[LOSS.name])
    for name, values in losses.items():
        values[examples.scored] = found.values[LOSS.name, name]
    tokenizer = trial.model.tokenizer
    assert tokenizer is not None
    different = np.unique(examples.tokens)
    texts = {int(token): tokenizer.decode([int(token)], skip_special_tokens=False) for token in different}
    described = [HypothesisRecord(each.name, each.claim, each.rules) for each in trial.hypotheses]
    hypotheses = {each.name: each for each in described}
    return StudyResults(
        trial.run(),
        examples,
        texts,
        hypotheses,
        losses.__getitem__,
        ((trial.settings.seed, 0),),
        {},
    )
