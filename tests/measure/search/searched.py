"""Studies of random models for searches, and what they give exactly: by the evaluator, or by the oracle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from small import DECODERS, ROLES, Small, small, small_decoder, small_gpt2

from scrub.data.examples import PROMPTS, Examples
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.fold import Fold
from scrub.measure.search.screen import Screen
from scrub.models.model import Model, make_model
from scrub.study.metric import ROLES as MEASURED
from scrub.study.metric import as_metrics
from scrub.study.run import Trial, prepare_study
from scrub.study.settings import Settings
from scrub.study.study import Study

HERE = Settings(dtype="float64", device="cpu", progress=False, controls=False)
THREE_LAYERS = {"prev": [(0, 1)], "self": [(0, 0), (1, 1)], "ind": [(1, 2), (2, 0), (2, 1)]}
FOUR_LAYERS = {"ind": [(1, 1), (3, 0)]}  # there is a layer between these
WHOLE, ONE_ENTRY, ENTRIES = "** -> y", "a1.ind/** -> y", "**/a*.ind/** -> y"
VOCAB, ROWS = 13, 5


def model_of(kind: str, vocabulary: int = VOCAB, **fields: Any) -> Model:
    """A random model of float64: attention-only of two or three layers, GPT-2, or a decoder by name."""
    if kind in {"attn", "standard"}:
        made = small("shortformer" if kind == "attn" else kind, roles=ROLES, vocab_size=vocabulary, **fields)
    elif kind == "attn3":
        made = small(n_layers=3, n_heads=3, roles=THREE_LAYERS, vocab_size=vocabulary, n_ctx=5, **fields)
    elif kind == "attn4":
        made = small(n_layers=4, n_heads=2, roles=FOUR_LAYERS, vocab_size=vocabulary, n_ctx=3, **fields)
    elif kind == "gpt2":
        made = small_gpt2(n_heads=3, vocab_size=vocabulary, **fields)
    else:
        own = "n_kv_heads" in DECODERS.get(kind, {}) or kind in {"arena", "encoder"}
        heads = {"n_heads": 4, "n_kv_heads": 4 if own else 2}
        return small_decoder(kind, vocab_size=vocabulary, **heads | fields)
    return make_model(kind, made.config, made.params)


def near(model: Model, by: float) -> Model:
    """The model with a second half of its vocabulary, whose embeddings are near those of the first."""
    noise = torch.randn(model.params["embed.weight"].shape, generator=torch.Generator().manual_seed(9)).double()
    params = dict(model.params)
    params["embed.weight"] = torch.cat([params["embed.weight"], params["embed.weight"] + by * noise])
    for name in ("unembed.weight", "unembed.bias"):
        if name in params and not getattr(model.config, "n_classes", None):
            params[name] = torch.cat([params[name], params[name]])
    config = model.config.model_copy(update={"vocab_size": 2 * model.vocab_size})
    return make_model("near", config, params)


def text(model: Model, rows: int = ROWS, vocabulary: int = VOCAB, seed: int = 1) -> Examples:
    """Random sequences, some of whose positions are scored, with others."""
    rng = np.random.default_rng(seed)
    tokens, other = rng.integers(1, vocabulary, size=(2, rows, model.n_ctx + 1))
    scored = rng.random((rows, model.n_ctx)) < np.linspace(0.2, 0.9, rows)[:, None]
    scored[:, -1] = True
    return Examples(tokens, scored, other=other)


def prompts(model: Model, rows: int = ROWS, vocabulary: int = VOCAB, seed: int = 1) -> Examples:
    """Random prompts, each with an answer, a wrong one, and an other."""
    rng = np.random.default_rng(seed)
    tokens, other = rng.integers(1, vocabulary, size=(2, rows, model.n_ctx + 1))
    scored = np.zeros((rows, model.n_ctx), bool)
    scored[:, -1] = True
    return Examples(
        tokens, scored, PROMPTS, other=other, answers=tokens[:, -1:], wrong=tokens[:, -1:] % (vocabulary - 1) + 1
    )


def tokens_of(examples: Examples) -> dict[str, torch.Tensor]:
    """What x and y read."""
    assert examples.other is not None
    return {"x": torch.from_numpy(examples.inputs), "y": torch.from_numpy(examples.other[:, :-1])}


def trial_of(baseline: str, model: Model, examples: Examples, metric: str = "loss", **settings: Any) -> Trial:
    """A study of this baseline alone, on all examples."""
    study = Study(baseline, positions="whitelist", name="study")
    return prepare_study(study, (), model, examples, replace(HERE, **settings), as_metrics(metric, None))


def fold_of(
    baseline: str, model: Model, examples: Examples, metric: str = "loss", *, cells: Any = (), **settings: Any
) -> Fold:
    """All examples as one fold, with the cells that the arguments of `Cells.made` say."""
    trial = trial_of(baseline, model, examples, metric, **settings)
    return Fold(Cells.made(trial.study, trial.model, **dict(cells)), trial)


def screen_of(fold: Fold, **how: Any) -> Screen:
    """The screen of a fold's first pairing."""
    return Screen(fold.cells, fold.metric, fold.pairings[0], fold.trial.settings, **how)


def exactly(fold: Fold, lists: Sequence[Collection[Cell]]) -> np.ndarray:
    """The metric's sums over each example's scored positions, of each list."""
    made = [fold.cells.experiment(kept, f"list {at}") for at, kept in enumerate(lists)]
    sums = fold.measure(made).sums
    return np.stack([sums[MEASURED[0], each.name] for each in made])


def some(cells: Cells, size: int, seed: int = 0) -> frozenset[Cell]:
    """A random list."""
    return frozenset(np.random.default_rng(seed).permutation(np.array(cells.every, object))[:size])


def ours(model: Model, inputs: Mapping[str, torch.Tensor]) -> Small:
    """The model as the oracle takes it."""
    return Small(model.config, model.params, inputs)


def any_of(draw: st.DrawFn, cells: Cells) -> frozenset[Cell]:
    """Draw a list of cells: a few by chance, and many that are alike in something, as rules have them."""
    every = cells.every
    kept = set(draw(st.lists(st.sampled_from(every), max_size=9)))
    for of in ("place", "component", "part"):
        alike = st.sampled_from(sorted({getattr(cell, of) for cell in every}))
        wanted = draw(st.sets(alike, max_size=2))
        kept ^= {cell for cell in every if getattr(cell, of) in wanted}
    return frozenset(kept)
